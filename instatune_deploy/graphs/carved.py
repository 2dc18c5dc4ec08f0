"""A graph with its large weights beside it: graphs carved from one template share the weights that none of them cuts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Weights = Mapping[str, NDArray[Any]]

LARGE_BYTES = 1024
"""Smaller initialisers stay in the graph: shapes and axes, which runtimes read while they load it, are among them."""

KINDS = "fiub"
"""Kinds of numpy types that every runtime takes as arrays; packed four-bit numbers and the like stay in the graph."""

IN_MEMORY = "memory"
"""Where the graph says its own weights are. No such file exists: whoever opens the graph gives the arrays."""

PAGE_BYTES = 4096
"""Weights begin at whole pages of their file, so that they can be mapped."""


@dataclass(frozen=True)
class Carved:
    """One graph, its large weights beside it. The graph holds their types and shapes, and marks them as external data.

    own:    the weights that are arrays of this graph, C-contiguous; give them to a runtime by name
    shared: the weights that lie in a file, mapped into memory; the graph names the file, relative to ``folder``
    Arrays may belong to other graphs too: never write to them.
    """

    graph: onnx.ModelProto
    own: Weights
    shared: Weights = field(default_factory=dict)
    folder: Path | None = None

    @classmethod
    def of(cls, model: onnx.ModelProto) -> Carved:
        """Take a whole model apart; ``model`` stays as it is."""
        light, own = _without_initializers(model), {}
        for item in model.graph.initializer:
            values = numpy_helper.to_array(item)
            if values.nbytes >= LARGE_BYTES and values.dtype.kind in KINDS:
                own[item.name] = values
                add_external(light.graph, item, values)
            else:
                light.graph.initializer.append(item)
        return cls(light, own)

    @classmethod
    def load(cls, path: Path) -> Carved:
        """Open an ONNX file; weights that it keeps in files beside it are mapped, not read."""
        graph, shared = onnx.load(path, load_external_data=False), {}
        for item in graph.graph.initializer:
            if item.data_location == TensorProto.EXTERNAL:
                shared[item.name] = _map(item, path.parent)
        return cls(graph, {}, shared, path.parent.absolute()) if shared else cls.of(graph)

    def save(self, path: Path) -> None:
        """Write the graph to ``path`` and its large weights to one file beside it: ONNX with external data."""
        onnx.save(self._write_beside(path, self.weights), path)

    def put(self, path: Path) -> None:
        """Write the graph to ``path`` for a runtime to load at once: its own weights beside it, the file of shared ones linked.

        Graphs that are put into one folder must come from one template. Much quicker than `save`, and the runtime maps what
        is shared instead of copying it; for a folder that does not leave this host.
        """
        light = self._write_beside(path, self.own)
        for name in {_place(item)["location"] for item in self.graph.graph.initializer if item.name in self.shared}:
            assert self.folder is not None
            if not (path.parent / name).exists():
                _link(self.folder / name, path.parent / name)
        path.write_bytes(light.SerializeToString())

    def _write_beside(self, path: Path, weights: Weights) -> onnx.ModelProto:
        """Write ``weights`` to one file beside ``path``; the graph that says where they are."""
        light, beside = _without_initializers(self.graph), path.with_suffix(".weights")
        with beside.open("wb") as stream:
            for item in self.graph.graph.initializer:
                if (values := weights.get(item.name)) is None:
                    light.graph.initializer.append(item)
                    continue
                offset = append_page(stream, np.ascontiguousarray(values).data)
                add_external(light.graph, item, values, location=beside.name, offset=offset, length=values.nbytes)
        return light

    @property
    def size_bytes(self) -> int:
        """Of the whole model, to within some bytes of names and places."""
        return len(self.light) + sum(values.nbytes for values in self.weights.values())

    @property
    def weights(self) -> Weights:
        """All the large weights."""
        return {**self.shared, **self.own}

    @cached_property
    def light(self) -> bytes:
        """The graph without its weights, serialised: some kilobytes."""
        return self.graph.SerializeToString()

    @cached_property
    def weights_as_inputs(self) -> bytes:
        """The same with the weights as inputs after its own, for a runtime that can put constants in place of inputs."""
        model, weights = _without_initializers(self.graph), self.weights
        for item in self.graph.graph.initializer:
            if item.name in weights:
                model.graph.input.append(helper.make_tensor_value_info(item.name, item.data_type, item.dims))
            else:
                model.graph.initializer.append(item)
        return model.SerializeToString()

    def model(self) -> onnx.ModelProto:
        """The whole model, as it is handed over: one that needs nothing beside it."""
        whole, weights = _without_initializers(self.graph), self.weights
        for item in self.graph.graph.initializer:
            values = weights.get(item.name)
            whole.graph.initializer.append(item if values is None else numpy_helper.from_array(values, item.name))
        return whole


def add_external(
    graph: onnx.GraphProto, like: onnx.TensorProto, values: NDArray[Any], location: str = IN_MEMORY, **place: int
) -> None:
    """Add an initialiser with the name and type of ``like`` and the shape of ``values``, which are elsewhere."""
    item = graph.initializer.add(name=like.name, data_type=like.data_type, dims=values.shape, data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **place}.items():
        item.external_data.add(key=key, value=str(value))


def append_page(stream: BinaryIO, content: memoryview) -> int:
    """Append ``content``, beginning at a whole page; where that is."""
    stream.write(bytes(-stream.tell() % PAGE_BYTES))
    offset = stream.tell()
    stream.write(content)
    return offset


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)


def _place(item: onnx.TensorProto) -> dict[str, str]:
    """File, offset and length of an initialiser that lies outside."""
    return {entry.key: entry.value for entry in item.external_data}


def _map(item: onnx.TensorProto, folder: Path) -> NDArray[Any]:
    """The values of an initialiser whose file, offset and length it says; pages are read when they are first used."""
    place = _place(item)
    # copy-on-write: runtimes that share memory ask for arrays that could be written to
    return np.memmap(
        folder / place["location"],
        helper.tensor_dtype_to_np_dtype(item.data_type),
        mode="c",
        offset=int(place.get("offset", 0)),
        shape=tuple(item.dims),
    )


def _without_initializers(source: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of everything but the bytes that make a model large."""
    target = onnx.ModelProto()
    for part, into, left_out in ((source, target, "graph"), (source.graph, target.graph, "initializer")):
        for descriptor, value in part.ListFields():
            if descriptor.name == left_out:
                continue
            if isinstance(value, str | int):
                setattr(into, descriptor.name, value)
            else:
                getattr(into, descriptor.name).MergeFrom(value)
    return target
