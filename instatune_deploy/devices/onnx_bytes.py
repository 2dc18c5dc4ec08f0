"""ONNX files of the simplest kind, written without the onnx package: protobuf's wire format for the fields that they need.

Field numbers are those of onnx.proto; a message's fields stand in their order, so the bytes are those of onnx itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

FLOAT, INT = 1, 2
"""TensorProto.DataType.FLOAT, AttributeProto.AttributeType.INT."""
VARINT, LENGTH = 0, 2
"""Wire types."""


@dataclass(frozen=True)
class Node:
    """One operator with one output; ``attributes`` are whole numbers."""

    operator: str
    inputs: Sequence[str]
    output: str
    attributes: Mapping[str, int] = field(default_factory=dict)


def model_bytes(
    nodes: Iterable[Node],
    weights: Mapping[str, np.ndarray],
    inputs: Mapping[str, Sequence[int]],
    outputs: Mapping[str, Sequence[int]],
    *,
    graph: str,
    producer: str,
    opset: int,
    ir_version: int,
) -> bytes:
    """A ModelProto: float32 weights; float32 inputs and outputs by name with their shapes."""
    content = b"".join(_text(1, _node(node)) for node in nodes)
    content += _text(2, graph)
    content += b"".join(_text(5, _tensor(name, values)) for name, values in weights.items())
    content += b"".join(_text(11, _value(name, shape)) for name, shape in inputs.items())
    content += b"".join(_text(12, _value(name, shape)) for name, shape in outputs.items())
    opset_id = _text(1, "") + _number(2, opset)
    return _number(1, ir_version) + _text(2, producer) + _text(7, content) + _text(8, opset_id)


def _node(node: Node) -> bytes:
    attributes = b"".join(
        _text(5, _text(1, name) + _number(3, value) + _number(20, INT)) for name, value in node.attributes.items()
    )
    return b"".join(_text(1, name) for name in node.inputs) + _text(2, node.output) + _text(4, node.operator) + attributes


def _tensor(name: str, values: np.ndarray) -> bytes:
    content = np.ascontiguousarray(values, dtype="<f4").tobytes()
    return b"".join(_number(1, size) for size in values.shape) + _number(2, FLOAT) + _text(8, name) + _text(9, content)


def _value(name: str, shape: Sequence[int]) -> bytes:
    dimensions = b"".join(_text(1, _number(1, size)) for size in shape)
    tensor_type = _number(1, FLOAT) + _text(2, dimensions)
    return _text(1, name) + _text(2, _text(1, tensor_type))


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3 | VARINT) + _varint(value)


def _text(number: int, value: str | bytes) -> bytes:
    """A field of known length: text, bytes or a message."""
    content = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | LENGTH) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; the eighth bit says that more follow. Negative numbers as 64 bits."""
    value &= (1 << 64) - 1
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
