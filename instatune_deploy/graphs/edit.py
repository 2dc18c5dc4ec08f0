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
    unused = []
    for index in range(len(graph.node) - 1, -1, -1):
        node = graph.node[index]
        if any(name in needed for name in node.output):
            needed.update(node.input)
        else:
            unused.append(index)
    # deleting moves pointers only: cheaper than copying what stays, and weights may be most of it
    for index in unused:
        del graph.node[index]
    for index in range(len(graph.initializer) - 1, -1, -1):
        if graph.initializer[index].name not in needed:
            del graph.initializer[index]
