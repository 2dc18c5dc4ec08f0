"""Layers without heads or without MLP neurons, in every kind of graph."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from instatune_deploy.devices.runtimes.registry import open_session
from instatune_deploy.graphs.carve import carve, carve_shared
from instatune_deploy.graphs.export import export_model
from instatune_deploy.graphs.half import half_precision
from instatune_deploy.graphs.packed import PackedGraphs
from instatune_deploy.graphs.template import Template
from instatune_deploy.supernet.architecture import Architecture

from .conftest import Case

SOME = Architecture((0, 1, 2, 3), (0, 3, 2, 0), (64, 0, 5, 33))
HEADS_ONLY = Architecture((1, 2), (4, 1), (0, 0))
ZEROS = [SOME, HEADS_ONLY, Architecture((0, 3), (4, 0), (0, 64)), Architecture((2,), (1,), (0,))]


def run(graph: bytes | Path, inputs: dict[str, np.ndarray], runtime: str = "onnxruntime") -> np.ndarray:
    with closing(open_session(graph, runtime, "fp32", 1)) as session:
        return session.run(inputs)["logits"]


def test_exported_and_carved_compute_the_same(bert: Case) -> None:
    """OpenVINO cannot load the exported graph: unlike a carved one it holds matrices of no rows."""
    inputs = bert.inputs(1)
    tensors = {name: torch.from_numpy(value) for name, value in inputs.items()}
    exported = export_model(bert.network.extract(SOME), tensors)
    for graph in (exported, carve(bert.plain, SOME), carve(bert.fused, SOME)):
        np.testing.assert_allclose(run(graph.SerializeToString(), inputs), bert.logits(SOME, inputs), rtol=0, atol=1e-4)


@pytest.mark.parametrize("variant", ["plain", "fused"])
def test_nothing_of_what_is_gone_is_in_the_graph(bert: Case, variant: str) -> None:
    graph = carve(getattr(bert, variant), SOME).graph
    names = {item.name for item in graph.initializer}
    layer = "bert.encoder.layer."
    for gone in ("0.attention.self", "3.attention.self", "0.attention.output.dense.weight", "1.intermediate", "1.output.dense.w"):
        assert not [name for name in names if name.startswith(layer + gone)]
    assert not {"attention_0.weight", "attention_3.weight"} & names
    assert {f"{layer}0.attention.output.dense.bias", f"{layer}1.output.dense.bias"} <= names
    counts = Counter(node.op_type for node in graph.node)
    assert counts["Attention" if variant == "fused" else "Softmax"] == 2
    assert counts["BiasGelu" if variant == "fused" else "Gelu"] == 3
    assert 0 not in {size for item in graph.initializer for size in item.dims}
    # what is read is the bias itself: no node between it and the residual sum
    sums = {tuple(sorted(node.input)) for node in graph.node if node.op_type in ("Add", "Sum")}
    assert [names for names in sums if f"{layer}0.attention.output.dense.bias" in names and "boundary_0" in names]
    floats = sum(numpy_helper.to_array(item).size for item in graph.initializer if item.data_type == onnx.TensorProto.FLOAT)
    parameters = bert.network.shape.parameters_of(SOME)
    assert parameters - 28 * 32 <= floats <= parameters + 20


def test_is_valid_onnx(bert: Case) -> None:
    for architecture in ZEROS:
        onnx.checker.check_model(carve(bert.plain, architecture), full_check=True)


@pytest.mark.parametrize("architecture", ZEROS, ids=str)
def test_half_precision(bert: Case, architecture: Architecture) -> None:
    inputs = bert.inputs(2)
    graph = half_precision(carve(bert.fused, architecture))
    types = {item.name: item.data_type for item in graph.graph.initializer if "dense.bias" in item.name}
    assert set(types.values()) == {onnx.TensorProto.FLOAT16}
    logits = run(graph.SerializeToString(), inputs)
    np.testing.assert_allclose(logits, bert.logits(architecture, inputs), rtol=0, atol=0.05)


def test_packed_and_shared(bert: Case, tmp_path: Path) -> None:
    inputs = bert.inputs(3)
    with PackedGraphs(tmp_path) as packed:
        for index, architecture in enumerate(ZEROS):
            packed.add(f"{index}.onnx", carve_shared(bert.plain, architecture))
    for index, architecture in enumerate(ZEROS):
        for runtime in ("onnxruntime", "openvino"):
            logits = run(tmp_path / f"{index}.onnx", inputs, runtime)
            np.testing.assert_allclose(logits, bert.logits(architecture, inputs), rtol=0, atol=1e-4)


def test_open_shapes(open_cases: dict[str, Case]) -> None:
    case = open_cases["bert"]
    for architecture in ZEROS:
        for graph, runtime in ((case.plain, "onnxruntime"), (case.fused, "onnxruntime"), (case.plain, "openvino")):
            with closing(open_session(carve(graph, architecture).SerializeToString(), runtime, "fp32", 1)) as session:
                for rows, tokens in ((1, 1), (3, 7), (2, 40)):
                    inputs = case.inputs(0, rows=rows, tokens=tokens)
                    expected = case.logits(architecture, inputs)
                    np.testing.assert_allclose(session.run(inputs)["logits"], expected, rtol=0, atol=1e-4)


def test_kept_template(bert: Case, tmp_path: Path) -> None:
    bert.fused.save(tmp_path, "template")
    assert carve(Template.load(tmp_path, "template"), SOME) == carve(bert.fused, SOME)
