"""The template: one ONNX export of the full network, with what must be known to carve any architecture from it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from onnx import numpy_helper

from instatune_deploy.digests import digest
from instatune_deploy.files import read_json, write_json
from instatune_deploy.graphs.carved import Carved
from instatune_deploy.supernet.shape import ModelShape


@dataclass(frozen=True)
class Cut:
    """One initialiser of a layer that shrinks with it: along ``axis``, the first heads or the first MLP neurons stay.

    groups: the axis holds this many equal blocks, each cut alike (3 where query, key and value are packed in one).
    """

    initializer: str
    axis: int
    by: Literal["heads", "mlp"]
    groups: int = 1


@dataclass(frozen=True)
class Remainder:
    """What is left of a layer's attention, or of its MLP, when it is gone: its output bias.

    Whoever reads ``tensor`` reads the initialiser ``bias`` instead, (hidden_size,), which the residual sum broadcasts; the
    nodes that computed ``tensor`` fall away.
    """

    tensor: str
    bias: str
    by: Literal["heads", "mlp"]


@dataclass(frozen=True)
class Template:
    """The full network as a graph.

    graph:      whole, or with its weights beside it (`load` gives that); it must not change
    boundaries: tensor names, the input of layer i at i and the output of the last layer at the end
    cuts:       per layer, what shrinks
    remainders: per layer, what is read where there are no heads or no MLP neurons
    attention:  per layer, the name of the node whose ``num_heads`` attribute follows; empty where there is none
    """

    graph: onnx.ModelProto | Carved
    shape: ModelShape
    boundaries: tuple[str, ...]
    cuts: tuple[tuple[Cut, ...], ...]
    remainders: tuple[tuple[Remainder, ...], ...]
    attention: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """RuntimeError when a rewriting of the graph has lost what carving needs."""
        graph = self.graph.graph.graph if isinstance(self.graph, Carved) else self.graph.graph
        there = {name for node in graph.node for name in node.output} | {item.name for item in graph.initializer}
        wanted = {name for layer in self.remainders for item in layer for name in (item.tensor, item.bias)}
        if lost := sorted(wanted - there):
            raise RuntimeError(f"the graph has no {lost[0]}")

    @property
    def model(self) -> onnx.ModelProto:
        """The whole graph; put together anew every time when the weights lie beside it."""
        return self.graph.model() if isinstance(self.graph, Carved) else self.graph

    @cached_property
    def split(self) -> Carved:
        """The graph with its large weights beside it; graphs that are carved from it share them."""
        return self.graph if isinstance(self.graph, Carved) else Carved.of(self.graph)

    @cached_property
    def structure(self) -> str:
        """Digest of everything that latency can depend on, so of all but the values of the weights."""
        graph = self.split.graph.graph
        weights = {item.name: [list(item.dims), item.data_type] for item in graph.initializer}
        # small integer initialisers are shapes and axes: they decide what is computed
        constants = {
            item.name: numpy_helper.to_array(item).tolist()
            for item in graph.initializer
            if item.data_type == onnx.TensorProto.INT64 and np.prod(item.dims) <= 16
        }
        nodes = [
            [node.op_type, node.domain, list(node.input), list(node.output), [str(item) for item in node.attribute]]
            for node in graph.node
        ]
        inputs = [str(item) for item in graph.input]
        return digest([inputs, nodes, weights, constants])[:16]

    def save(self, folder: Path, name: str) -> None:
        """Write ``<name>.onnx``, its weights to ``<name>.weights``, and ``<name>.json``."""
        self.split.save(folder / f"{name}.onnx")
        write_json(
            folder / f"{name}.json",
            {
                "shape": self.shape.to_json(),
                "boundaries": self.boundaries,
                "cuts": [[asdict(cut) for cut in cuts] for cuts in self.cuts],
                "remainders": [[asdict(item) for item in items] for items in self.remainders],
                "attention": self.attention,
            },
        )

    @classmethod
    def load(cls, folder: Path, name: str) -> Template:
        """The inverse of `save`."""
        value: dict[str, Any] = read_json(folder / f"{name}.json")
        return cls(
            graph=Carved.load(folder / f"{name}.onnx"),
            shape=ModelShape(**value["shape"]),
            boundaries=tuple(value["boundaries"]),
            cuts=tuple(tuple(Cut(**cut) for cut in cuts) for cuts in value["cuts"]),
            remainders=tuple(tuple(Remainder(**item) for item in items) for items in value["remainders"]),
            attention=tuple(value["attention"]),
        )
