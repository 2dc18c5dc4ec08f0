"""Presets: search spaces as proportions of a model's own sizes. A new one is one line in `PRESETS`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from instatune_deploy.supernet.families import FAMILIES
from instatune_deploy.supernet.shape import ModelShape

PAPER = "paper"
"""The name of whatever preset the model's family says."""


@dataclass(frozen=True)
class Preset:
    """Shares of the full model's own sizes.

    depth:      of its layers, rounded up: the smallest depth; every depth from there on is a choice
    heads:      of its heads, each rounded to a whole number, at least 1
    mlp_widths: of its MLP width, each rounded to a multiple
    zeros:      whether a layer's whole attention, and its whole MLP, may be gone
    """

    depth: Fraction
    heads: tuple[Fraction, ...]
    mlp_widths: tuple[Fraction, ...]
    zeros: bool = False

    def depths_of(self, shape: ModelShape) -> list[int]:
        """Depths in layers."""
        return list(range(math.ceil(shape.layers * self.depth), shape.layers + 1))

    def heads_of(self, shape: ModelShape) -> list[int]:
        """Heads of a layer."""
        return [*self._nothing, *(max(1, round(shape.heads * part)) for part in self.heads)]

    def mlp_widths_of(self, shape: ModelShape, multiple: int) -> list[int]:
        """Neurons of a layer's MLP: multiples of ``multiple``; the full width, and models with fewer than four times as many
        neurons, keep the plain numbers."""
        plain = [shape.mlp_width * part for part in self.mlp_widths]
        if shape.mlp_width < 4 * multiple:
            return [*self._nothing, *(max(1, round(width)) for width in plain)]
        stepped = [max(multiple, round(width / multiple) * multiple) for width in plain]
        return [*self._nothing, *(min(width, shape.mlp_width) for width in stepped)]

    @property
    def _nothing(self) -> list[int]:
        return [0] if self.zeros else []


def preset_for(name: str, shape: ModelShape) -> Preset:
    """The preset of that name; ``paper`` is the one of the model's family."""
    if name == PAPER:
        name = next(family.paper for family in FAMILIES if family.name == shape.family)
    return PRESETS[name]


def _shares(of: int, *parts: int) -> tuple[Fraction, ...]:
    return tuple(Fraction(part, of) for part in parts)


VISION = Preset(Fraction(11, 12), _shares(12, 6, 8, 10, 12), _shares(6, 4, 5, 6))

PRESETS: dict[str, Preset] = {
    # arXiv 2308.15609, on models of 12 layers, 12 heads and MLPs of 3072:
    # BERT-base: layers 6..12, heads {6,8,10,12}, MLP {1024,2048,3072}
    "paper-bert": Preset(Fraction(1, 2), _shares(12, 6, 8, 10, 12), _shares(3, 1, 2, 3)),
    # ViT-B/16 and BEiT-3 base: layers {11,12}, heads {6,8,10,12}, MLP {2048,2560,3072}
    "paper-vit": VISION,
    "paper-beit3": VISION,
    # whole attentions and MLPs gone too, as in arXiv 2302.04089
    "wide": Preset(Fraction(1, 3), _shares(4, 1, 2, 3, 4), _shares(4, 1, 2, 3, 4), zeros=True),
}
