"""The SearchSpace: the elastic choices, and their encoding as integer vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from instatune_deploy.config import SpaceSettings
from instatune_deploy.errors import BadInput
from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.supernet.shape import ModelShape

# BERT-base in arXiv 2308.15609: layers 6..12 of 12, heads {6,8,10,12} of 12, MLP {1024,2048,3072} of 3072
PAPER_HEADS = (1 / 2, 2 / 3, 5 / 6, 1)
PAPER_MLP_WIDTHS = (1 / 3, 2 / 3, 1)
WIDTH_STEP = 32


@dataclass(frozen=True)
class SearchSpace:
    """Depth, heads per layer and MLP width per layer; the largest choice of each is the full model's own.

    A *genotype* is an integer vector of ``1 + 2 * layers`` genes: the index of the depth, then per layer of the full
    model the index of its heads, then per layer the index of its MLP width. Genes of layers that the depth does not
    keep say nothing: `canonical` sets them to the largest choice, so that equal networks are equal rows.
    """

    layers: int
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    mlp_widths: tuple[int, ...]
    keep_layers: Literal["even", "first"] = "even"

    @classmethod
    def of(cls, shape: ModelShape, settings: SpaceSettings) -> SearchSpace:
        """The space that ``settings`` describe for a model; the paper's proportions where they say nothing.

        The full model's own depth, heads and width always belong to it. ``BadInput`` for a choice the model lacks.
        """
        depths = settings.depths or range((shape.layers + 1) // 2, shape.layers + 1)
        heads = settings.heads or [max(1, round(shape.heads * part)) for part in PAPER_HEADS]
        widths = settings.mlp_widths or [_stepped(shape.mlp_width * part, shape.mlp_width) for part in PAPER_MLP_WIDTHS]
        for name, choices, most in (
            ("depths", depths, shape.layers),
            ("heads", heads, shape.heads),
            ("mlp_widths", widths, shape.mlp_width),
        ):
            if max(choices) > most:
                raise BadInput(f"space.{name}: {max(choices)} is more than the model has ({most})")
        return cls(
            layers=shape.layers,
            depths=tuple(sorted({*depths, shape.layers})),
            heads=tuple(sorted({*heads, shape.heads})),
            mlp_widths=tuple(sorted({*widths, shape.mlp_width})),
            keep_layers=settings.keep_layers,
        )

    @property
    def genes(self) -> int:
        """Length of a genotype."""
        return 1 + 2 * self.layers

    @property
    def choices(self) -> np.ndarray:
        """Number of choices of every gene: (genes,) int64."""
        per_layer = [len(self.heads)] * self.layers + [len(self.mlp_widths)] * self.layers
        return np.array([len(self.depths), *per_layer])

    def kept_layers(self, depth: int) -> tuple[int, ...]:
        """The layers that a network of ``depth`` layers keeps.

        ``even``: evenly spaced with the first and the last (a single one is the last); ``first``: the first ones, as in
        the paper.
        """
        if self.keep_layers == "first":
            return tuple(range(depth))
        if depth == 1:
            return (self.layers - 1,)
        # integer arithmetic: halves round down, on every platform
        steps = 2 * (depth - 1)
        return tuple((2 * i * (self.layers - 1) + depth - 2) // steps if i else 0 for i in range(depth))

    def keep_mask(self) -> np.ndarray:
        """(depths, layers) bool: which layers each depth keeps."""
        mask = np.zeros((len(self.depths), self.layers), dtype=bool)
        for row, depth in enumerate(self.depths):
            mask[row, list(self.kept_layers(depth))] = True
        return mask

    def canonical(self, genotypes: np.ndarray) -> np.ndarray:
        """(n, genes) int -> the same networks, one genotype each."""
        absent = ~self.keep_mask()[genotypes[:, 0]]
        result = genotypes.copy()
        for start, largest in ((1, len(self.heads) - 1), (1 + self.layers, len(self.mlp_widths) - 1)):
            part = result[:, start : start + self.layers]
            part[absent] = largest
        return result

    def sizes(self, genotypes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n, genes) int -> heads and MLP widths, (n, layers) int each, 0 where a layer is absent."""
        present = self.keep_mask()[genotypes[:, 0]]
        heads = np.array(self.heads)[genotypes[:, 1 : 1 + self.layers]]
        widths = np.array(self.mlp_widths)[genotypes[:, 1 + self.layers : self.genes]]
        return heads * present, widths * present

    def decode(self, genotype: np.ndarray) -> Architecture:
        """(genes,) int -> the Architecture it builds."""
        layers = self.kept_layers(self.depths[int(genotype[0])])
        return Architecture(
            layers,
            tuple(self.heads[int(genotype[1 + layer])] for layer in layers),
            tuple(self.mlp_widths[int(genotype[1 + self.layers + layer])] for layer in layers),
        )

    def encode(self, architecture: Architecture) -> np.ndarray:
        """The canonical genotype, (genes,) int64; ``BadInput`` for an architecture of another space."""
        if architecture not in self:
            raise BadInput(f"architecture ({architecture}) is not in the search space")
        genotype = self.choices - 1
        genotype[0] = self.depths.index(architecture.depth)
        for layer, heads, width in zip(architecture.layers, architecture.heads, architecture.mlp_widths, strict=True):
            genotype[1 + layer] = self.heads.index(heads)
            genotype[1 + self.layers + layer] = self.mlp_widths.index(width)
        return genotype

    def __contains__(self, architecture: Architecture) -> bool:
        return (
            architecture.depth in self.depths
            and architecture.layers == self.kept_layers(architecture.depth)
            and set(architecture.heads) <= set(self.heads)
            and set(architecture.mlp_widths) <= set(self.mlp_widths)
        )

    def sample(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """``count`` genotypes, every gene uniform over its choices: (count, genes) int64, canonical."""
        return self.canonical(rng.integers(0, self.choices, size=(count, self.genes)))

    def largest(self) -> Architecture:
        """The full network."""
        return self.decode(self.choices - 1)

    def smallest(self) -> Architecture:
        """The smallest depth with the fewest heads and the smallest MLPs."""
        return self.decode(np.zeros(self.genes, dtype=np.int64))

    def uniform(self) -> list[Architecture]:
        """Every member whose layers are all alike."""
        return [
            Architecture(self.kept_layers(depth), (heads,) * depth, (width,) * depth)
            for depth in self.depths
            for heads in self.heads
            for width in self.mlp_widths
        ]

    def count(self) -> int:
        """Number of different architectures."""
        per_layer = len(self.heads) * len(self.mlp_widths)
        return sum(per_layer**depth for depth in self.depths)

    def to_json(self) -> dict[str, Any]:
        """A JSON value; `from_json` gives the same space back."""
        sizes = {name: list(getattr(self, name)) for name in ("depths", "heads", "mlp_widths")}
        return {"layers": self.layers, **sizes, "keep_layers": self.keep_layers}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> SearchSpace:
        """The inverse of `to_json`."""
        sizes = {name: tuple(value[name]) for name in ("depths", "heads", "mlp_widths")}
        return cls(layers=value["layers"], **sizes, keep_layers=value["keep_layers"])


def _stepped(width: float, most: int) -> int:
    """The multiple of `WIDTH_STEP` nearest to ``width``; the full width, and small models, keep the plain number."""
    if width == most or most < 4 * WIDTH_STEP:
        return max(1, round(width))
    return max(WIDTH_STEP, round(width / WIDTH_STEP) * WIDTH_STEP)
