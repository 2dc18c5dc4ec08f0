"""Graphs in half precision, for runtimes that compute in what the graph says."""

from __future__ import annotations

import onnx


def half_precision(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network with fp16 weights and arithmetic; its inputs and outputs keep their types. ``model`` stays as it is."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    # shapes are not inferred: that does not know the runtime's own operators
    converted: onnx.ModelProto = convert_float_to_float16(copy, keep_io_types=True, disable_shape_infer=True)
    return converted
