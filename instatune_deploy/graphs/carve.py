"""Carve an architecture's graph from the template: cut layers, slice initialisers. No PyTorch, a fraction of a second."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from instatune_deploy.graphs.carved import Carved, add_external
from instatune_deploy.graphs.template import Cut, Template
from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.supernet.shape import ModelShape


def carve(template: Template, architecture: Architecture) -> onnx.ModelProto:
    """The whole graph of ``architecture``: its outputs are those of the extracted network, to float precision."""
    return carve_shared(template, architecture).model()


def carve_shared(template: Template, architecture: Architecture) -> Carved:
    """`carve` without copying what ``architecture`` does not cut: those weights are the template's own arrays.

    Reshapes of the template hold ``-1`` where the heads stand, so they follow by themselves.
    """
    full, cuts = template.split, _slices(template, architecture)
    source = full.graph.graph
    _check_image_size(source, architecture)
    model = onnx.ModelProto(ir_version=full.graph.ir_version, producer_name=full.graph.producer_name)
    model.opset_import.extend(full.graph.opset_import)
    graph = model.graph
    graph.name = source.name
    graph.input.extend(source.input)
    graph.output.extend(item for item in source.output if item.name not in template.boundaries)
    needed = _add_nodes(graph, source, _connections(template, architecture))
    _set_heads(graph, template, architecture)
    own: dict[str, NDArray[Any]] = {}
    shared: dict[str, NDArray[Any]] = {}
    weights = full.weights
    for item in source.initializer:
        name = item.name
        if name not in needed:
            continue
        if name in weights and name in cuts:
            own[name] = _slice(weights[name], cuts[name])
            add_external(graph, item, own[name])
        elif name in cuts:
            graph.initializer.append(numpy_helper.from_array(_slice(numpy_helper.to_array(item), cuts[name]), name))
        else:
            graph.initializer.append(item)
            if name in weights:
                (shared if name in full.shared else own)[name] = weights[name]
    return Carved(model, own, shared, full.folder)


def _check_image_size(graph: onnx.GraphProto, architecture: Architecture) -> None:
    """A template has one size of images, and positions for no other."""
    for item in graph.input:
        sizes = [dimension.dim_value for dimension in item.type.tensor_type.shape.dim]
        if len(sizes) == 4 and architecture.image_size not in (None, sizes[-1]):
            raise ValueError(f"the template is for images of {sizes[-1]} px; the architecture takes {architecture.image_size} px")


Slices = dict[str, list[tuple[Cut, int, int]]]


def _slices(template: Template, architecture: Architecture) -> Slices:
    """What remains of each initialiser: its cuts with units kept and units there are (both in elements of the axis)."""
    shape, result = template.shape, Slices()
    for layer, heads, width in architecture.per_layer():
        for cut in template.cuts[layer]:
            kept, of = _units(shape, cut, heads, width)
            if kept < of:
                result.setdefault(cut.initializer, []).append((cut, kept, of))
    return result


def _units(shape: ModelShape, cut: Cut, heads: int, width: int) -> tuple[int, int]:
    if cut.by == "heads":
        return heads * shape.head_size, shape.heads * shape.head_size
    return width, shape.mlp_width


def _slice(values: NDArray[Any], cuts: list[tuple[Cut, int, int]]) -> NDArray[Any]:
    """What the cuts leave, contiguous. Rows at the beginning are contiguous already and stay where they are."""
    for cut, kept, of in cuts:
        before, after = values.shape[: cut.axis], values.shape[cut.axis + 1 :]
        blocks = values.reshape(*before, cut.groups, of, *after)
        blocks = blocks[(slice(None),) * (cut.axis + 1) + (slice(kept),)]
        values = blocks.reshape(*before, cut.groups * kept, *after)
    return np.ascontiguousarray(values)


def _connections(template: Template, architecture: Architecture) -> dict[str, str]:
    """What is read instead of a tensor.

    Every kept layer reads the kept layer before it, and the head the last one; where a layer has no heads, or no MLP neurons,
    what is left of them.
    """
    instead, previous = {}, 0
    for layer, heads, width in architecture.per_layer():
        instead[template.boundaries[layer]] = template.boundaries[previous]
        previous = layer + 1
        left = {"heads": heads, "mlp": width}
        instead.update({item.tensor: item.bias for item in template.remainders[layer] if not left[item.by]})
    instead[template.boundaries[-1]] = template.boundaries[previous]
    return instead


def _add_nodes(graph: onnx.GraphProto, source: onnx.GraphProto, instead: dict[str, str]) -> set[str]:
    """Copy the nodes that the outputs of ``graph`` need, in their order; returns the names of all tensors they need.

    instead: tensors, each by the name of an earlier one, or of an initialiser, that is read in its place. A boundary's
    readers are the layer that begins there, so renaming once cannot run into itself.
    """
    needed, kept = {item.name for item in graph.output}, []
    for node in reversed(source.node):
        if any(name in needed for name in node.output):
            kept.append(node)
            needed.update(instead.get(name, name) for name in node.input)
    graph.node.extend(reversed(kept))
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name in instead:
                node.input[index] = instead[name]
    return needed


def _set_heads(graph: onnx.GraphProto, template: Template, architecture: Architecture) -> None:
    """Fused attention says its heads in an attribute."""
    if not template.attention:
        return
    heads = {template.attention[layer]: count for layer, count, _ in architecture.per_layer()}
    for node in graph.node:
        if node.name in heads:
            for attribute in node.attribute:
                inner = heads[node.name] * template.shape.head_size
                if attribute.name == "num_heads":
                    attribute.i = heads[node.name]
                elif attribute.name == "qkv_hidden_sizes":
                    attribute.ints[:] = [inner] * 3
