"""The sizes of a full model, and what an architecture of it costs in MACs and parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from instatune_deploy.supernet.architecture import Architecture


@dataclass(frozen=True)
class ModelShape:
    """Sizes of the full model. ``head_size`` and ``hidden_size`` are fixed; the rest is elastic."""

    layers: int
    heads: int
    mlp_width: int
    hidden_size: int
    head_size: int
    fixed_parameters: int
    """Parameters outside the elastic matrices: embeddings, norms, classifier, and biases that are never cut; those
    inside a layer are counted in ``layer_parameters``."""
    layer_parameters: int
    """Parameters of one layer that stay as long as the layer does (norms, output biases)."""
    family: str = "bert"
    """Name of the model's family, for what only it can say."""
    head_biases: int = 3
    """How many of the query, key and value matrices have biases."""
    patch_macs: int = 0
    """What it takes to make a token of one patch of an image."""
    class_tokens: int = 0
    """How many of an image's tokens are no patches."""
    image_size: int | None = None
    """Pixels of an image's edge; None where it takes no images, or images that are no squares of square patches."""
    patch_size: int | None = None
    """Pixels of a patch's edge."""

    def full(self) -> Architecture:
        """The full network."""
        return Architecture(tuple(range(self.layers)), (self.heads,) * self.layers, (self.mlp_width,) * self.layers)

    def macs(self, heads: np.ndarray, mlp_widths: np.ndarray, tokens: int | np.ndarray) -> np.ndarray:
        """Multiply-accumulates of one input of ``tokens`` tokens; an image's patches are counted, lookups and classifier not.

        heads, mlp_widths: (..., layers), 0 where there are none; a layer with neither is absent. tokens: one number, or (...).
        Returns (...), float64.

        The standard transformer formula the InstaTune paper uses (arXiv 2308.15609): four projections, two attention
        products and two MLP matrices. BERT-base at 128 tokens: 11.17 G; ViT-B/16 at 197: 17.56 G.
        """
        inner = np.asarray(heads, dtype=np.float64) * self.head_size
        count = np.asarray(tokens, dtype=np.float64)
        each = count[..., None]
        attention = 4 * each * self.hidden_size * inner + 2 * each * each * inner
        mlp = 2 * each * self.hidden_size * np.asarray(mlp_widths, dtype=np.float64)
        patches = self.patch_macs * (count - self.class_tokens)
        return np.asarray((attention + mlp).sum(axis=-1) + patches)

    def tokens_of(self, image_size: np.ndarray) -> np.ndarray:
        """Tokens of an image, by the pixels of its edge: int of the same shape."""
        assert self.patch_size is not None
        return np.asarray((image_size // self.patch_size) ** 2 + self.class_tokens)

    def parameters(self, heads: np.ndarray, mlp_widths: np.ndarray, image_sizes: np.ndarray | None = None) -> np.ndarray:
        """Parameters of the extracted network; arguments and result as in `macs`. image_sizes: (...), of other sizes than the
        full model's: a smaller image has fewer positions"""
        heads, mlp_widths = np.asarray(heads, dtype=np.float64), np.asarray(mlp_widths, dtype=np.float64)
        inner = heads * self.head_size
        attention = 4 * self.hidden_size * inner + self.head_biases * inner
        mlp = (2 * self.hidden_size + 1) * mlp_widths
        layers = present(heads, mlp_widths) * self.layer_parameters
        found = (attention + mlp + layers).sum(axis=-1) + self.fixed_parameters
        if image_sizes is not None:
            lost = self.tokens_of(np.array(self.image_size)) - self.tokens_of(image_sizes)
            found = found - lost * self.hidden_size
        return np.asarray(found)

    def macs_of(self, architecture: Architecture, tokens: int) -> int:
        """`macs` of one architecture. tokens: of an input, where the architecture does not say its size itself"""
        edge = architecture.image_size
        count = tokens if edge is None else int(self.tokens_of(np.array(edge)))
        return int(self.macs(np.array(architecture.heads), np.array(architecture.mlp_widths), count))

    def parameters_of(self, architecture: Architecture) -> int:
        """`parameters` of one architecture."""
        edge = None if architecture.image_size is None else np.array(architecture.image_size)
        return int(self.parameters(np.array(architecture.heads), np.array(architecture.mlp_widths), edge))

    def to_json(self) -> dict[str, Any]:
        """A JSON value; ``ModelShape(**value)`` gives it back."""
        return dict(vars(self))


def present(heads: np.ndarray, mlp_widths: np.ndarray) -> np.ndarray:
    """Which layers are there, bool of the same shape: those with heads or MLP neurons."""
    return (np.asarray(heads) > 0) | (np.asarray(mlp_widths) > 0)
