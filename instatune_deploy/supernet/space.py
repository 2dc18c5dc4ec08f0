"""The SearchSpace: the elastic choices, and their encoding as integer vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from instatune_deploy.config import SpaceSettings
from instatune_deploy.errors import BadInput
from instatune_deploy.image_size import check_image_size
from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.supernet.presets import preset_for
from instatune_deploy.supernet.shape import ModelShape, present

SPACE_REVISION = 2
"""Raised when the same settings make another space: what was trained in the old one is trained anew. 2: the last kept layer
always has attention."""


@dataclass(frozen=True)
class SearchSpace:
    """Depth, heads per layer, MLP width per layer and size of the images; the largest choice of each is the full model's own.

    All choices increase. 0 heads, or an MLP width of 0, are choices like others: the layer's attention, or its MLP, is
    gone. A layer of both is dropped, so the network is one without that layer. The last kept layer always has attention, the
    smallest number of heads that is not 0 where 0 is chosen: a classifier looks at one token, and all networks learn to gather
    what it needs there in their last layer. One without it would be at chance unless it was trained for itself.

    image_sizes: pixels of an image's edge; none where all networks take inputs of the full model's size, or no images.

    layer_order: layers, most important first; only to keep layers by ``importance``. ``BadInput`` when it is missing then.

    A *genotype* is an integer vector of ``1 + 2 * layers`` genes: the index of the depth, then per layer of the full
    model the index of its heads, then per layer the index of its MLP width; where there are several image sizes, one gene more
    is the index of that. Genes of layers that the depth does not
    keep say nothing, and a layer that is dropped may be one that a smaller depth does not keep: `canonical` gives each
    network one genotype, with the smallest depth that keeps all its layers and the largest choice where genes say nothing.
    """

    layers: int
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    mlp_widths: tuple[int, ...]
    keep_layers: Literal["even", "first", "importance"] = "even"
    layer_order: tuple[int, ...] = ()
    image_sizes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        limits_of = (("depths", 1, self.layers), ("heads", 0, None), ("mlp_widths", 0, None), ("image_sizes", 1, None))
        for key, least, most in limits_of:
            values = getattr(self, key)
            if key == "image_sizes" and not values:
                continue
            if not values or list(values) != sorted({*values}) or values[0] < least or (most is not None and values[-1] > most):
                limits = f"from {least} to {most}" if most is not None else f"of at least {least}"
                raise BadInput(f"space.{key}: increasing whole numbers {limits} (found {list(values)})")
        if self.heads == (0,):
            raise BadInput("space.heads: 0 alone leaves no attention in any layer; name another number beside it")
        if self.keep_layers == "importance" and sorted(self.layer_order) != list(range(self.layers)):
            found = list(self.layer_order) or "none"
            raise BadInput(
                f"space.keep_layers: 'importance' needs the order of the model's {self.layers} layers by it (found {found})"
            )

    @classmethod
    def of(cls, shape: ModelShape, settings: SpaceSettings, layer_order: Sequence[int] | None = None) -> SearchSpace:
        """The space that ``settings`` describe for a model; the preset's proportions where they say nothing.

        The full model's own depth, heads and width always belong to it. ``BadInput`` for a choice the model lacks.
        """
        preset = preset_for(settings.preset, shape)
        depths = preset.depths_of(shape) if settings.depths is None else settings.depths
        heads = preset.heads_of(shape) if settings.heads is None else settings.heads
        widths = settings.mlp_widths
        if widths is None:
            widths = preset.mlp_widths_of(shape, settings.width_multiple)
        return cls(
            layers=shape.layers,
            depths=_choices("depths", depths, 1, shape.layers, "layers"),
            heads=_choices("heads", heads, 0, shape.heads, "heads in a layer"),
            mlp_widths=_choices("mlp_widths", widths, 0, shape.mlp_width, "MLP neurons in a layer"),
            keep_layers=settings.keep_layers,
            layer_order=tuple(layer_order or ()) if settings.keep_layers == "importance" else (),
            image_sizes=() if settings.image_sizes is None else _image_sizes(settings.image_sizes, shape),
        )

    def restricted(self, width_multiple: int | None, image_size: int | None = None) -> SearchSpace:
        """The same with only those MLP widths that are multiples of ``width_multiple``, or the full one, or 0; and with images of
        one size, whichever the space has. None restricts nothing."""
        if width_multiple is None and image_size is None:
            return self
        widths = self.mlp_widths
        if width_multiple is not None:
            widths = (*(width for width in widths[:-1] if width % width_multiple == 0), widths[-1])
        return replace(self, mlp_widths=widths, image_sizes=self.image_sizes if image_size is None else (image_size,))

    @property
    def genes(self) -> int:
        """Length of a genotype."""
        return len(self.choices)

    @property
    def choices(self) -> np.ndarray:
        """Number of choices of every gene: (genes,) int64."""
        per_layer = [len(self.heads)] * self.layers + [len(self.mlp_widths)] * self.layers
        return np.array([len(self.depths), *per_layer, *([len(self.image_sizes)] if self.resizes else [])])

    @property
    def resizes(self) -> bool:
        """Whether images have several sizes: the last gene is the index of theirs."""
        return len(self.image_sizes) > 1

    @property
    def drops_layers(self) -> bool:
        """Whether a layer can have neither heads nor MLP neurons."""
        return self.heads[0] == self.mlp_widths[0] == 0

    def kept_layers(self, depth: int) -> tuple[int, ...]:
        """The layers that a network of ``depth`` layers keeps.

        ``even``: evenly spaced with the first and the last (a single one is the last); ``first``: the first ones, as in
        the paper; ``importance``: the most important ones.
        """
        if self.keep_layers == "first":
            return tuple(range(depth))
        if self.keep_layers == "importance":
            return tuple(sorted(self.layer_order[:depth]))
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
        heads, widths = self.sizes(genotypes)
        mask = self.keep_mask()
        lacking = (present(heads, widths)[:, None] & ~mask).any(axis=2)
        depths = lacking.argmin(axis=1)
        absent = ~mask[depths]
        heads, widths = np.searchsorted(self.heads, heads), np.searchsorted(self.mlp_widths, widths)
        heads[absent], widths[absent] = len(self.heads) - 1, len(self.mlp_widths) - 1
        rest = genotypes[:, 1 + 2 * self.layers :]  # the image size's, if there is one
        return np.column_stack([depths, heads, widths, rest]).astype(genotypes.dtype)

    def sizes(self, genotypes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n, genes) int -> heads and MLP widths, (n, layers) int each, 0 where there are none; both where no layer is."""
        kept = self.keep_mask()[genotypes[:, 0]]
        heads = np.array(self.heads)[genotypes[:, 1 : 1 + self.layers]] * kept
        widths = np.array(self.mlp_widths)[genotypes[:, 1 + self.layers : 1 + 2 * self.layers]] * kept
        last = self.layers - 1 - kept[:, ::-1].argmax(axis=1)
        lacking = heads[np.arange(len(heads)), last] == 0
        heads[lacking, last[lacking]] = _least(self.heads)
        return heads, widths

    def edges(self, genotypes: np.ndarray) -> np.ndarray | None:
        """(n, genes) int -> pixels of an image's edge, (n,) int; None where the space says nothing of it."""
        if not self.image_sizes:
            return None
        last = genotypes[:, -1] if self.resizes else np.zeros(len(genotypes), dtype=np.int64)
        return np.asarray(np.array(self.image_sizes)[last])

    def tokens(self, genotypes: np.ndarray, shape: ModelShape, otherwise: int) -> np.ndarray:
        """(n, genes) int -> tokens of one input, (n,) int; ``otherwise`` where the space says nothing of their size."""
        edges = self.edges(genotypes)
        return np.full(len(genotypes), otherwise) if edges is None else shape.tokens_of(edges)

    def macs(self, genotypes: np.ndarray, shape: ModelShape, otherwise: int) -> np.ndarray:
        """(n, genes) int -> multiply-accumulates of one input, (n,) float64 (`ModelShape.macs`); arguments as in `tokens`."""
        return shape.macs(*self.sizes(genotypes), self.tokens(genotypes, shape, otherwise))

    def parameters(self, genotypes: np.ndarray, shape: ModelShape) -> np.ndarray:
        """(n, genes) int -> parameters of the extracted networks, (n,) float64."""
        return shape.parameters(*self.sizes(genotypes), self.edges(genotypes))

    def decode(self, genotype: np.ndarray) -> Architecture:
        """(genes,) int -> the Architecture it builds."""
        heads, widths = (sizes[0] for sizes in self.sizes(genotype[None]))
        layers = np.flatnonzero(present(heads, widths))
        edges = self.edges(genotype[None])
        kept, of_heads, of_mlps = (tuple(values.tolist()) for values in (layers, heads[layers], widths[layers]))
        return Architecture(kept, of_heads, of_mlps, None if edges is None else int(edges[0]))

    def encode(self, architecture: Architecture) -> np.ndarray:
        """The canonical genotype, (genes,) int64; ``BadInput`` for an architecture of another space."""
        depth = self._depth(architecture)
        if depth is None:
            raise BadInput(f"architecture ({architecture}) is not in the search space")
        genotype = self.choices - 1
        genotype[0] = self.depths.index(depth)
        for layer in self.kept_layers(depth):
            genotype[[1 + layer, 1 + self.layers + layer]] = 0
        for layer, heads, width in architecture.per_layer():
            genotype[1 + layer] = self.heads.index(heads)
            genotype[1 + self.layers + layer] = self.mlp_widths.index(width)
        if self.resizes:
            assert architecture.image_size is not None
            genotype[-1] = self.image_sizes.index(architecture.image_size)
        return genotype

    def __contains__(self, architecture: Architecture) -> bool:
        return self._depth(architecture) is not None

    def _depth(self, architecture: Architecture) -> int | None:
        """The smallest depth that can build it; None when none can."""
        known = set(architecture.heads) <= set(self.heads) and set(architecture.mlp_widths) <= set(self.mlp_widths)
        if not known or not architecture.heads[-1] or architecture.image_size not in (self.image_sizes or (None,)):
            return None
        for depth in self.depths:
            kept = self.kept_layers(depth)
            fewer = self.drops_layers and set(architecture.layers) <= set(kept) and architecture.layers[-1] == kept[-1]
            if architecture.layers == kept or fewer:
                return depth
        return None

    def sample(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """``count`` genotypes, every gene uniform over its choices: (count, genes) int64, canonical."""
        return self.canonical(rng.integers(0, self.choices, size=(count, self.genes)))

    def largest(self) -> Architecture:
        """The full network."""
        return self.decode(self.choices - 1)

    def smallest(self) -> Architecture:
        """The smallest depth with the fewest heads and the smallest MLPs that are not 0, and the smallest images."""
        return self._alike(self.depths[0], _least(self.heads), _least(self.mlp_widths), self._edges[0])

    def uniform(self) -> list[Architecture]:
        """Every member whose layers are all alike, with heads and MLP neurons."""
        return [
            self._alike(depth, heads, width, edge)
            for depth in self.depths
            for heads in self.heads
            for width in self.mlp_widths
            for edge in self._edges
            if heads and width
        ]

    @property
    def _edges(self) -> tuple[int | None, ...]:
        """What an architecture's ``image_size`` can be."""
        return self.image_sizes or (None,)

    def _alike(self, depth: int, heads: int, width: int, edge: int | None) -> Architecture:
        return Architecture(self.kept_layers(depth), (heads,) * depth, (width,) * depth, edge)

    def count(self) -> int:
        """Number of different architectures."""
        # networks with another last layer are others; the last one has attention and is never dropped
        before: dict[int, list[set[int]]] = {}
        for depth in self.depths:
            *others, last = self.kept_layers(depth)
            before.setdefault(last, []).append(set(others))
        of_last = sum(heads > 0 for heads in self.heads) * len(self.mlp_widths)
        return len(self._edges) * of_last * sum(self._ways(sets) for sets in before.values())

    def _ways(self, sets: list[set[int]]) -> int:
        """Number of ways to choose the layers of any of ``sets``."""
        per_layer = len(self.heads) * len(self.mlp_widths)
        if not self.drops_layers:
            return sum(per_layer ** len(kept) for kept in sets)
        # any of them may be dropped; sets may share layers, so layer by layer:
        # in how many ways can those so far be chosen so that just these sets (bits of a number) hold all that are there?
        sets = [kept for kept in sets if not any(kept < other for other in sets)]
        ways = {(1 << len(sets)) - 1: 1}
        for layer in range(self.layers):
            keeping = sum(1 << index for index, kept in enumerate(sets) if layer in kept)
            after = dict(ways)
            for depths, count in ways.items():
                if depths & keeping:
                    after[depths & keeping] = after.get(depths & keeping, 0) + count * (per_layer - 1)
            ways = after
        return sum(ways.values())

    def to_json(self) -> dict[str, Any]:
        """A JSON value; `from_json` gives the same space back."""
        sizes = {name: list(getattr(self, name)) for name in ("depths", "heads", "mlp_widths")}
        more = {name: list(getattr(self, name)) for name in ("layer_order", "image_sizes") if getattr(self, name)}
        return {"layers": self.layers, **sizes, "keep_layers": self.keep_layers, **more}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> SearchSpace:
        """The inverse of `to_json`."""
        sizes = {name: tuple(value[name]) for name in ("depths", "heads", "mlp_widths")}
        more = {name: tuple(value.get(name, ())) for name in ("layer_order", "image_sizes")}
        return cls(layers=value["layers"], **sizes, keep_layers=value["keep_layers"], **more)


def _choices(key: str, given: Sequence[int], least: int, most: int, what: str) -> tuple[int, ...]:
    """``given`` in order, each once, and the full model's own; ``BadInput`` when the model cannot have them."""
    has = f"the model has {most} {what}"
    if not given:
        raise BadInput(f"space.{key}: the list is empty; {has}: give numbers from {least} to {most}, or leave the key out")
    if max(given) > most:
        raise BadInput(f"space.{key}: {max(given)} is more than the model has ({most})")
    if min(given) < least:
        raise BadInput(f"space.{key}: {min(given)} is too few; {has}: give numbers from {least} to {most}")
    if max(given) == 0:
        raise BadInput(f"space.{key}: there is only 0; {has}: give a number from 1 to {most} as well")
    return tuple(sorted({*given, most}))


def _image_sizes(given: Sequence[int], shape: ModelShape) -> tuple[int, ...]:
    """As `_choices`; whole patches."""
    if shape.image_size is None or shape.patch_size is None:
        raise BadInput("space.image_sizes: for models of square images of square patches only; leave it out")
    sizes = _choices("image_sizes", given, shape.patch_size, shape.image_size, "pixels along an image's edge")
    for size in sizes:
        check_image_size(size, (shape.patch_size, shape.patch_size), "space.image_sizes")
    return sizes


def _least(choices: tuple[int, ...]) -> int:
    """The smallest that is not 0."""
    return next(size for size in choices if size)
