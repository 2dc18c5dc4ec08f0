"""What a predictor sees of an architecture: the choices of every layer, and what they add up to."""

from __future__ import annotations

import numpy as np

from instatune_deploy.supernet.shape import ModelShape, present
from instatune_deploy.supernet.space import SearchSpace

_COUNTED = {"heads": "attentions", "mlp_widths": "mlps"}


def feature_names(space: SearchSpace) -> list[str]:
    """The columns of `features`, in order."""
    per_layer = [f"{what}_{layer}" for what in ("heads", "mlp_width") for layer in range(space.layers)]
    counted = [_COUNTED[name] for name in _zeros(space)]
    return [*per_layer, "depth", "heads", "mlp_widths", "macs", "parameters", *counted, *(["tokens"] if space.resizes else [])]


def features(space: SearchSpace, shape: ModelShape, genotypes: np.ndarray, tokens: int) -> np.ndarray:
    """(n, genes) int -> (n, features) float64, all of them at once. An absent layer has 0 heads and width 0.

    Where the space lets whole attentions or MLPs go, how many there are is a feature too: each costs something that does not
    depend on its size. tokens: of an input, where the space does not have several sizes of images; there they are a feature.
    """
    heads, widths = space.sizes(genotypes)
    of = {"heads": heads, "mlp_widths": widths}
    return np.column_stack(
        [
            heads,
            widths,
            present(heads, widths).sum(axis=1),
            heads.sum(axis=1),
            widths.sum(axis=1),
            space.macs(genotypes, shape, tokens),
            space.parameters(genotypes, shape),
            *((of[name] > 0).sum(axis=1) for name in _zeros(space)),
            *([space.tokens(genotypes, shape, tokens)] if space.resizes else []),
        ]
    ).astype(np.float64)


def _zeros(space: SearchSpace) -> list[str]:
    """Of heads and MLP widths, what may be 0 in a layer that is there."""
    return [name for name in _COUNTED if 0 in getattr(space, name)]
