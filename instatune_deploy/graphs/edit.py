"""Small edits of an ONNX graph, in place."""

from __future__ import annotations

import onnx


def rename_tensor(model: onnx.ModelProto, old: str, new: str) -> None:
    """Rename a tensor wherever it stands."""
    graph = model.graph
    for item in (*graph.initializer, *graph.input, *graph.output, *graph.value_info):
        if item.name == old:
            item.name = new
    for node in graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == old:
                    names[index] = new


def drop_unused(model: onnx.ModelProto) -> None:
    """Remove nodes and initialisers that no output needs. Nodes must be in topological order (ONNX demands it)."""
    graph = model.graph
    needed = {item.name for item in graph.output}
    kept = []
    for node in reversed(graph.node):
        if any(name in needed for name in node.output):
            kept.append(node)
            needed.update(node.input)
    if len(kept) < len(graph.node):
        nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in reversed(kept)]
        del graph.node[:]
        graph.node.extend(nodes)
    unused = [index for index, item in enumerate(graph.initializer) if item.name not in needed]
    for index in reversed(unused):
        del graph.initializer[index]
