"""Carve an architecture's graph from the template: cut layers, slice initialisers. No PyTorch, a fraction of a second."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

from instatune_deploy.graphs.edit import drop_unused
from instatune_deploy.graphs.template import Cut, Template
from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.supernet.shape import ModelShape


def carve(template: Template, architecture: Architecture) -> onnx.ModelProto:
    """The graph of ``architecture``: its outputs are those of the extracted network, to float precision.

    Reshapes of the template hold ``-1`` where the heads stand, so they follow by themselves.
    """
    source = template.model
    slices = _slices(template, architecture)
    model = onnx.ModelProto()
    for field in ("ir_version", "producer_name"):
        setattr(model, field, getattr(source, field))
    model.opset_import.extend(source.opset_import)
    graph = model.graph
    graph.name = source.graph.name
    graph.input.extend(source.graph.input)
    graph.output.extend(item for item in source.graph.output if item.name not in template.boundaries)
    graph.node.extend(source.graph.node)
    _cut_layers(graph, template, architecture)
    _set_heads(graph, template, architecture)
    # only names first: the weights, most of the bytes, are copied once and only those that are used
    graph.initializer.extend(onnx.TensorProto(name=item.name) for item in source.graph.initializer)
    drop_unused(model)
    used = {item.name for item in graph.initializer}
    del graph.initializer[:]
    for item in source.graph.initializer:
        if item.name in used:
            cut = slices.get(item.name)
            if cut is None:
                graph.initializer.append(item)
            else:
                graph.initializer.append(numpy_helper.from_array(_slice(numpy_helper.to_array(item), cut), item.name))
    return model


Slices = dict[str, list[tuple[Cut, int, int]]]


def _slices(template: Template, architecture: Architecture) -> Slices:
    """What remains of each initialiser: its cuts with units kept and units there are (both in elements of the axis)."""
    shape, result = template.shape, Slices()
    for layer, heads, width in zip(architecture.layers, architecture.heads, architecture.mlp_widths, strict=True):
        for cut in template.cuts[layer]:
            kept, of = _units(shape, cut, heads, width)
            if kept < of:
                result.setdefault(cut.initializer, []).append((cut, kept, of))
    return result


def _units(shape: ModelShape, cut: Cut, heads: int, width: int) -> tuple[int, int]:
    if cut.by == "heads":
        return heads * shape.head_size, shape.heads * shape.head_size
    return width, shape.mlp_width


def _slice(values: np.ndarray, cuts: list[tuple[Cut, int, int]]) -> np.ndarray:
    for cut, kept, of in cuts:
        before, after = values.shape[: cut.axis], values.shape[cut.axis + 1 :]
        blocks = values.reshape(*before, cut.groups, of, *after)
        blocks = np.take(blocks, range(kept), axis=cut.axis + 1)
        values = blocks.reshape(*before, cut.groups * kept, *after)
    return np.ascontiguousarray(values)


def _cut_layers(graph: onnx.GraphProto, template: Template, architecture: Architecture) -> None:
    """Let every kept layer read the output of the kept layer before it, and the head that of the last."""
    inputs, previous = {}, 0
    for layer in architecture.layers:
        inputs[template.boundaries[layer]] = template.boundaries[previous]
        previous = layer + 1
    inputs[template.boundaries[-1]] = template.boundaries[previous]
    # a boundary's readers are the layer that begins there, so one pass of renaming cannot run into itself
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = inputs.get(name, name)


def _set_heads(graph: onnx.GraphProto, template: Template, architecture: Architecture) -> None:
    """Fused attention says its heads in an attribute."""
    if not template.attention:
        return
    heads = {template.attention[layer]: count for layer, count in zip(architecture.layers, architecture.heads, strict=True)}
    for node in graph.node:
        if node.name in heads:
            for attribute in node.attribute:
                inner = heads[node.name] * template.shape.head_size
                if attribute.name == "num_heads":
                    attribute.i = heads[node.name]
                elif attribute.name == "qkv_hidden_sizes":
                    attribute.ints[:] = [inner] * 3
