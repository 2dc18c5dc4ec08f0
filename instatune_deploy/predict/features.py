"""What a predictor sees of an architecture: the choices of every layer, and what they add up to."""

from __future__ import annotations

import numpy as np

from instatune_deploy.supernet.shape import ModelShape
from instatune_deploy.supernet.space import SearchSpace


def feature_names(space: SearchSpace) -> list[str]:
    """The columns of `features`, in order."""
    per_layer = [f"{what}_{layer}" for what in ("heads", "mlp_width") for layer in range(space.layers)]
    return [*per_layer, "depth", "heads", "mlp_widths", "macs", "parameters"]


def features(space: SearchSpace, shape: ModelShape, genotypes: np.ndarray, tokens: int) -> np.ndarray:
    """(n, genes) int -> (n, features) float64, all of them at once. An absent layer has 0 heads and width 0."""
    heads, widths = space.sizes(genotypes)
    return np.column_stack(
        [
            heads,
            widths,
            (heads > 0).sum(axis=1),
            heads.sum(axis=1),
            widths.sum(axis=1),
            shape.macs(heads, widths, tokens),
            shape.parameters(heads, widths),
        ]
    ).astype(np.float64)
