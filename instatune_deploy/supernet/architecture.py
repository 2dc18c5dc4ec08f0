"""An Architecture: one sub-network of a super-network, said exactly once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from instatune_deploy.digests import digest
from instatune_deploy.errors import BadInput
from instatune_deploy.words import counted


@dataclass(frozen=True)
class Architecture:
    """Which layers of the full model are kept, and how wide each of them is.

    All three tuples have one entry per *kept* layer, in order. A layer that is not kept does not exist here, so two
    genotypes that build the same network are one Architecture.

    layers:     indices into the full model's layers, increasing
    heads:      attention heads kept of each (the first ones: heads are ordered by importance)
    mlp_widths: neurons kept of each layer's MLP (the first ones)
    image_size: pixels of the edge of the images it is given; None is the size of the full model, and of what takes no images

    Heads or an MLP width may be 0: the whole attention or MLP of the layer is gone, and only its output bias is left of it,
    ``LayerNorm(x + bias)``. Where both would be 0 the layer is not kept.
    """

    layers: tuple[int, ...]
    heads: tuple[int, ...]
    mlp_widths: tuple[int, ...]
    image_size: int | None = None

    def __post_init__(self) -> None:
        if not self.layers or not len(self.layers) == len(self.heads) == len(self.mlp_widths):
            raise ValueError("an architecture needs at least one layer, and heads and MLP width of each")
        if list(self.layers) != sorted(set(self.layers)) or self.layers[0] < 0:
            raise ValueError(f"layers must increase and start at 0 or later: {self.layers}")
        if min(self.heads) < 0 or min(self.mlp_widths) < 0:
            raise ValueError("heads and MLP widths are 0 or more")
        for layer, heads, width in self.per_layer():
            if not heads and not width:
                raise ValueError(f"layer {layer} has neither heads nor MLP neurons: such a layer is not kept")

    @property
    def depth(self) -> int:
        """Number of layers."""
        return len(self.layers)

    def per_layer(self) -> Iterator[tuple[int, int, int]]:
        """Layer, heads and MLP width of every kept layer."""
        return zip(self.layers, self.heads, self.mlp_widths, strict=True)

    @cached_property
    def digest(self) -> str:
        """A short name, the same for equal architectures and for no others (16 hexadecimal digits)."""
        return digest(self.to_json())[:16]

    def to_json(self) -> dict[str, Any]:
        """A JSON value; `from_json` gives the same Architecture back."""
        sizes = {"layers": list(self.layers), "heads": list(self.heads), "mlp_widths": list(self.mlp_widths)}
        return sizes if self.image_size is None else {**sizes, "image_size": self.image_size}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Architecture:
        """``BadInput`` when ``value`` is no architecture."""
        try:
            layers, heads, widths = (tuple(int(size) for size in value[key]) for key in ("layers", "heads", "mlp_widths"))
            edge = value.get("image_size")
            return cls(layers, heads, widths, None if edge is None else int(edge))
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput(f"not an architecture: {error}") from error

    def __str__(self) -> str:
        """For people: ``4 layers, heads 12-12-0-6, MLP 1536-1024-1024-512``, and ``, 42 px`` of images."""
        heads = "-".join(map(str, self.heads)) if len(set(self.heads)) > 1 else str(self.heads[0])
        widths = "-".join(map(str, self.mlp_widths)) if len(set(self.mlp_widths)) > 1 else str(self.mlp_widths[0])
        edge = "" if self.image_size is None else f", {self.image_size} px"
        return f"{counted(self.depth, 'layer')}, heads {heads}, MLP {widths}{edge}"
