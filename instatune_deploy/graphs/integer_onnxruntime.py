"""ONNX Runtime's integer operators in place of its floating-point ones.

Matrices are int8 with one scale to an output channel; activations are uint8, with a scale from calibration (static) or from
the values at hand (dynamic). Sums are int32 and leave as floats, so norms, biases and residual sums stay in fp32.

The runtime's own quantiser leaves attention with ``qkv_hidden_sizes`` in fp32 (and with it a third of the matrices'
work), although the operator QAttention takes any number of heads; so the operators are put in here.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from instatune_deploy.errors import BadInput
from instatune_deploy.graphs.calibration import Rows
from instatune_deploy.graphs.naming import INPUT_SCALE, INPUT_ZERO_POINT, SCALE, ZERO_POINT

DOMAIN = "com.microsoft"
LINEAR = ("MatMul", "Attention")
TOKENS = "input_ids"

Ranges = dict[str, tuple[float, float]]
"""Smallest and largest input of each matrix, by the matrix's name; zero lies between them."""


def static_int8(model: onnx.ModelProto, rows: Rows, narrow_weights: bool = False, to_carve: bool = False) -> onnx.ModelProto:
    """See `quantise.quantise_model`; every activation has one scale, from the smallest and the largest value of all rows."""
    return _Quantiser(model, narrow_weights, input_ranges(model, rows)).result()


def dynamic_int8(model: onnx.ModelProto, rows: Rows, narrow_weights: bool = False, to_carve: bool = False) -> onnx.ModelProto:
    """See `quantise.quantise_model`; activations are scaled by their own range at every run, so ``rows`` are not read."""
    return _Quantiser(model, narrow_weights, None).result()


def input_ranges(model: onnx.ModelProto, rows: Rows) -> Ranges:
    """Run ``model`` in fp32 and watch the inputs of every matrix. ``BadInput`` when it computes what is no number."""
    import onnxruntime

    inputs = {node.input[1]: node.input[0] for node in _linears(model)}
    watched = sorted(set(inputs.values()))
    observed = onnx.ModelProto()
    observed.CopyFrom(model)
    del observed.graph.output[:]
    observed.graph.output.extend(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in watched)
    session = onnxruntime.InferenceSession(observed.SerializeToString(), providers=["CPUExecutionProvider"])
    ranges = dict.fromkeys(watched, (0.0, 0.0))
    for index, row in enumerate(rows):
        for name, values in zip(watched, session.run(watched, dict(row)), strict=True):
            low, high = float(values.min()), float(values.max())
            if not np.isfinite([low, high]).all():
                raise BadInput(f"calibration row {index}: the network computes values that are no numbers")
            ranges[name] = (min(low, ranges[name][0]), max(high, ranges[name][1]))
    return {weight: ranges[name] for weight, name in inputs.items()}


def _linears(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Nodes that multiply by a matrix of the model's parameters. The few rows of the classifier (Gemm) are not worth it."""
    matrices = {item.name for item in model.graph.initializer if len(item.dims) == 2}
    return [node for node in model.graph.node if node.op_type in LINEAR and node.input[1] in matrices]


class _Quantiser:
    """Rewrites one graph, node by node."""

    def __init__(self, model: onnx.ModelProto, narrow_weights: bool, ranges: Ranges | None) -> None:
        self.model = model
        self.most = 63 if narrow_weights else 127
        self.ranges = ranges
        self.weights = {item.name: item for item in model.graph.initializer}
        self.linears = {node.output[0] for node in _linears(model)}
        self.nodes: list[onnx.NodeProto] = []
        self.added: dict[str, onnx.TensorProto] = {}
        self.inputs: dict[str, tuple[str, str, str]] = {}

    def result(self) -> onnx.ModelProto:
        """The quantised graph; the given one stays as it is."""
        for node in self.model.graph.node:
            if node.output[0] in self.linears:
                self._linear(node)
            elif node.op_type == "Gather" and node.input[0] in self.weights and node.input[1] == TOKENS:
                self._embedding(node)
            else:
                self.nodes.append(node)
        result = onnx.ModelProto(ir_version=self.model.ir_version, producer_name=self.model.producer_name)
        result.opset_import.extend(self.model.opset_import)
        if not any(item.domain == DOMAIN for item in result.opset_import):
            result.opset_import.append(helper.make_opsetid(DOMAIN, 1))
        graph = result.graph
        graph.name = self.model.graph.name
        graph.input.extend(self.model.graph.input)
        graph.output.extend(self.model.graph.output)
        graph.node.extend(self.nodes)
        graph.initializer.extend(self.added.get(item.name, item) for item in self.model.graph.initializer)
        graph.initializer.extend(item for name, item in self.added.items() if name not in self.weights)
        return result

    def _linear(self, node: onnx.NodeProto) -> None:
        weight = node.input[1]
        values, scale, zero_point = self._input(node.input[0], weight)
        self._weight(weight, axis=0)
        if node.op_type == "MatMul":
            inputs = [values, weight, scale, weight + SCALE, zero_point]
            new = helper.make_node("MatMulIntegerToFloat", inputs, node.output, name=node.name, domain=DOMAIN)
        else:
            bias, mask = node.input[2], node.input[3] if len(node.input) > 3 else ""
            self._add(weight + ZERO_POINT, np.zeros((), np.int8))
            inputs = [values, weight, bias, scale, weight + SCALE, mask, zero_point, weight + ZERO_POINT]
            new = helper.make_node("QAttention", inputs, node.output, name=node.name, domain=DOMAIN)
            # how wide the heads are it sees from the matrix
            new.attribute.extend(item for item in node.attribute if item.name != "qkv_hidden_sizes")
        self.nodes.append(new)

    def _input(self, tensor: str, weight: str) -> tuple[str, str, str]:
        """Names of the quantised tensor, its scale and its zero point; matrices that read the same one share them."""
        if tensor not in self.inputs:
            values = f"{tensor}.quantised"
            if self.ranges is None:
                names = (values, f"{tensor}{SCALE}", f"{tensor}{ZERO_POINT}")
                self.nodes.append(helper.make_node("DynamicQuantizeLinear", [tensor], names))
            else:
                names = (values, f"{weight}{INPUT_SCALE}", f"{weight}{INPUT_ZERO_POINT}")
                low, high = self.ranges[weight]
                scale = np.float32((high - low) / 255 or 1)
                self._add(names[1], np.asarray(scale))
                self._add(names[2], np.asarray(np.rint(-low / scale), np.uint8))
                self.nodes.append(helper.make_node("QuantizeLinear", [tensor, *names[1:]], [values]))
            self.inputs[tensor] = names
        return self.inputs[tensor]

    def _embedding(self, node: onnx.NodeProto) -> None:
        """The tokens' rows, int8 with a scale each, are looked up first and become floats then."""
        table, tokens, result = node.input[0], node.input[1], node.output[0]
        self._weight(table, axis=1)
        rows, scales, floats = f"{result}.quantised", f"{result}{SCALE}", f"{result}.unscaled"
        self.nodes += [
            helper.make_node("Gather", [table, tokens], [rows]),
            helper.make_node("Gather", [table + SCALE, tokens], [scales]),
            helper.make_node("Cast", [rows], [floats], to=onnx.TensorProto.FLOAT),
            helper.make_node("Mul", [floats, scales], [result], name=node.name),
        ]

    def _weight(self, name: str, axis: int) -> None:
        """Symmetric: what is largest along ``axis`` becomes 127 (or 63)."""
        values = numpy_helper.to_array(self.weights[name])
        largest = np.abs(values).max(axis=axis, keepdims=axis == 1)
        scale = np.where(largest > 0, largest / np.float32(self.most), np.float32(1)).astype(np.float32)
        self._add(name, np.rint(values / scale).astype(np.int8))
        self._add(name + SCALE, scale)

    def _add(self, name: str, values: np.ndarray) -> None:
        self.added[name] = numpy_helper.from_array(values, name)
