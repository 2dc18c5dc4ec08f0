"""Open shapes of a graph: which of batch and tokens any size may be."""

from __future__ import annotations

from collections.abc import Collection

import onnx

AXES = ("batch", "tokens")
"""Of every input of tokens, in this order, as the open export names them; of images the batch alone."""


def with_open(model: onnx.ModelProto, opened: Collection[str], sizes: dict[str, int]) -> onnx.ModelProto:
    """A graph whose batch and tokens are open, with those of them closed that are not in ``opened``: their size is said.

    Everything that was inferred of the inner tensors' shapes is dropped; runtimes infer it again.
    """
    closed = {axis: sizes[axis] for axis in AXES if axis not in opened}
    found = onnx.ModelProto()
    found.CopyFrom(model)
    if not closed:
        return found
    for value in (*found.graph.input, *found.graph.output):
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param in closed:
                dimension.dim_value = closed[dimension.dim_param]
    del found.graph.value_info[:]
    return found
