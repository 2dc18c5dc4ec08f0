from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from instatune_deploy.graphs.edit import drop_unused, rename_tensor


def graph() -> onnx.ModelProto:
    """``y = (x + a) * b`` and ``z = -(x + a)``, and ``c`` that nobody reads."""
    nodes = [
        helper.make_node("Add", ["x", "a"], ["sum"], name="add"),
        helper.make_node("Mul", ["sum", "b"], ["y"], name="mul"),
        helper.make_node("Neg", ["sum"], ["z"], name="neg"),
    ]
    x, y, z, middle = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("x", "y", "z", "sum"))
    constants = [numpy_helper.from_array(np.ones(2, np.float32), name) for name in ("a", "b", "c")]
    body = helper.make_graph(nodes, "g", [x], [y, z], constants, value_info=[middle])
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def names(model: onnx.ModelProto) -> dict[str, list[str]]:
    parts = {"nodes": model.graph.node, "constants": model.graph.initializer, "outputs": model.graph.output}
    return {key: [item.name for item in items] for key, items in parts.items()}


def test_rename_an_inner_tensor() -> None:
    model = graph()
    rename_tensor(model, "sum", "total")
    assert [(list(node.input), list(node.output)) for node in model.graph.node] == [
        (["x", "a"], ["total"]),
        (["total", "b"], ["y"]),
        (["total"], ["z"]),
    ]
    assert [item.name for item in model.graph.value_info] == ["total"]
    onnx.checker.check_model(model, full_check=True)


def test_rename_inputs_outputs_and_constants() -> None:
    model = graph()
    for old, new in (("x", "input"), ("y", "output"), ("a", "weight"), ("nothing", "else")):
        rename_tensor(model, old, new)
    assert [item.name for item in model.graph.input] == ["input"]
    assert names(model) == {"nodes": ["add", "mul", "neg"], "constants": ["weight", "b", "c"], "outputs": ["output", "z"]}
    assert list(model.graph.node[0].input) == ["input", "weight"]
    onnx.checker.check_model(model, full_check=True)


def test_drop_unused_keeps_what_all_outputs_need() -> None:
    model = graph()
    drop_unused(model)
    assert names(model) == {"nodes": ["add", "mul", "neg"], "constants": ["a", "b"], "outputs": ["y", "z"]}


def test_drop_unused_after_an_output_is_gone() -> None:
    model = graph()
    del model.graph.output[0]
    drop_unused(model)
    assert names(model) == {"nodes": ["add", "neg"], "constants": ["a"], "outputs": ["z"]}
    onnx.checker.check_model(model, full_check=True)
