from __future__ import annotations

from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from instatune_deploy.devices.runtimes.registry import open_session
from instatune_deploy.errors import BadInput
from instatune_deploy.graphs.carve import carve
from instatune_deploy.graphs.quantise import is_quantised, quantise_model, quantise_template
from instatune_deploy.graphs.template import Template
from instatune_deploy.supernet.architecture import Architecture

from .conftest import INPUTS, Case

MIXED = Architecture((0, 2, 3), (3, 1, 4), (64, 5, 33))
HEAD_SIZE = 8
WAYS = [("onnxruntime", "int8"), ("onnxruntime", "int8-dynamic"), ("openvino", "int8")]


@dataclass(frozen=True)
class Quantised:
    """A quantised template and what it was made from."""

    case: Case
    runtime: str
    precision: str
    source: Template
    template: Template

    def again(self, graph: onnx.ModelProto, **changes: Any) -> onnx.ModelProto:
        return quantise_model(graph, self.runtime, self.precision, calibration(self.case), **changes)


def calibration(case: Case) -> list[dict[str, np.ndarray]]:
    return [case.inputs(seed) for seed in range(1000, 1016)]


def run(graph: onnx.ModelProto, inputs: dict[str, np.ndarray], runtime: str) -> np.ndarray:
    with closing(open_session(graph.SerializeToString(), runtime, "fp32", 1)) as session:
        outputs = session.run(inputs)
    assert list(outputs) == ["logits"]
    return outputs["logits"]


def values_of(graph: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {item.name: numpy_helper.to_array(item) for item in graph.graph.initializer}


@pytest.fixture(scope="session")
def all_quantised(cases: dict[str, Case]) -> dict[tuple[str, str, str], Quantised]:
    """By model type, runtime and precision; NNCF takes seconds, so it is given one model type."""
    result = {}
    for model_type, case in cases.items():
        for runtime, precision in WAYS if model_type == "bert" else WAYS[:2]:
            source = case.fused if runtime == "onnxruntime" else case.plain
            template = quantise_template(source, runtime, precision, calibration(case))
            result[model_type, runtime, precision] = Quantised(case, runtime, precision, source, template)
    return result


@pytest.fixture(params=WAYS, ids=" ".join)
def quantised(request: pytest.FixtureRequest, all_quantised: dict[tuple[str, str, str], Quantised]) -> Quantised:
    """BERT in every runtime and precision."""
    return all_quantised["bert", *request.param]


@pytest.mark.parametrize("way", [*[(model, *way) for model in INPUTS for way in WAYS[:2]], ("bert", *WAYS[2])], ids=" ".join)
@settings(max_examples=10, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), seed=st.integers(0, 99), padded=st.booleans())
def test_near_what_is_extracted(
    all_quantised: dict[tuple[str, str, str], Quantised],
    any_architecture: Any,
    way: tuple[str, str, str],
    data: st.DataObject,
    seed: int,
    padded: bool,
) -> None:
    quantised, architecture = all_quantised[way], data.draw(any_architecture)
    inputs = quantised.case.inputs(seed, padded)
    logits = run(carve(quantised.template, architecture), inputs, quantised.runtime)
    exact = quantised.case.logits(architecture, inputs)
    assert logits.shape == exact.shape == (2, 2)
    # weights are random and large, and ranges those of the full network: worse than any trained network; logits spread by 1
    np.testing.assert_allclose(logits, exact, rtol=0, atol=0.3 if way[2] == "int8-dynamic" else 1)


def test_near_on_the_whole(quantised: Quantised) -> None:
    """Single bad values are let pass above; here it is the typical error that counts."""
    errors = []
    for seed, architecture in enumerate([quantised.case.plain.shape.full(), MIXED, Architecture((1, 2), (2, 3), (40, 20))] * 8):
        inputs = quantised.case.inputs(seed)
        logits = run(carve(quantised.template, architecture), inputs, quantised.runtime)
        errors.append(np.abs(logits - quantised.case.logits(architecture, inputs)).mean())
    assert np.median(errors) < 0.1


def test_weights_are_slices_of_the_full_ones(quantised: Quantised) -> None:
    full, small = values_of(quantised.template.model), values_of(carve(quantised.template, MIXED))

    def dequantised(values: dict[str, np.ndarray], name: str) -> np.ndarray:
        assert values[name].dtype == np.int8
        return values[name] * values[f"{name}.scale"]

    for layer, heads, width in zip(MIXED.layers, MIXED.heads, MIXED.mlp_widths, strict=True):
        inner, path = heads * HEAD_SIZE, f"bert.encoder.layer.{layer}"
        expected = {
            f"{path}.attention.output.dense.weight": lambda whole, inner=inner: whole[:inner],
            f"{path}.intermediate.dense.weight": lambda whole, width=width: whole[:, :width],
            f"{path}.output.dense.weight": lambda whole, width=width: whole[:width],
        }
        if quantised.runtime == "openvino":
            for name in ("query", "key", "value"):
                expected[f"{path}.attention.self.{name}.weight"] = lambda whole, inner=inner: whole[:, :inner]
        else:
            expected[f"attention_{layer}.weight"] = lambda whole, inner=inner: np.concatenate(
                [whole[:, start : start + inner] for start in (0, 32, 64)], axis=1
            )
        for name, cut in expected.items():
            np.testing.assert_array_equal(dequantised(small, name), cut(dequantised(full, name)), err_msg=name)


def test_weights_are_near_the_trained_ones(quantised: Quantised) -> None:
    values = values_of(quantised.template.model)
    layer = quantised.case.network.extract(quantised.case.plain.shape.full()).bert.encoder.layer[2]
    for name, module in (("intermediate.dense", layer.intermediate.dense), ("output.dense", layer.output.dense)):
        weight = module.weight.detach().numpy().T
        name = f"bert.encoder.layer.2.{name}.weight"
        # the largest of each output channel becomes 127, and rounding is off by half a step at most
        np.testing.assert_allclose(values[f"{name}.scale"], np.abs(weight).max(axis=0) / 127, rtol=0.01)
        assert (np.abs(values[name] * values[f"{name}.scale"] - weight) <= 0.51 * values[f"{name}.scale"]).all()


@pytest.mark.parametrize("way", WAYS[:2], ids=" ".join)
def test_operators_of_onnxruntime(all_quantised: dict[tuple[str, str, str], Quantised], way: tuple[str, str]) -> None:
    nodes = carve(all_quantised["bert", *way].template, MIXED).graph.node
    counts = Counter(node.op_type for node in nodes)
    assert counts["QAttention"] == 3
    assert counts["MatMulIntegerToFloat"] == 9
    assert counts["DynamicQuantizeLinear" if way[1] == "int8-dynamic" else "QuantizeLinear"] == 12
    assert not {"Attention", "MatMul"} & set(counts)
    heads = [item.i for node in nodes for item in node.attribute if item.name == "num_heads"]
    assert heads == [3, 1, 4]


def test_operators_of_openvino(all_quantised: dict[tuple[str, str, str], Quantised]) -> None:
    graph = carve(all_quantised["bert", "openvino", "int8"].template, MIXED).graph
    quantised: set[str] = set()
    for node in graph.node:  # moving values about leaves them quantised
        if node.op_type == "DequantizeLinear" or (node.op_type in ("Reshape", "Transpose") and node.input[0] in quantised):
            quantised.update(node.output)
    products = [node for node in graph.node if node.op_type == "MatMul"]
    # six matrices and the product of queries and keys; that of probabilities and values stays in floats
    assert len(products) == 3 * 8
    assert sum(set(node.input) <= quantised for node in products) == 3 * 7
    weights = {item.name for item in graph.initializer if item.data_type == onnx.TensorProto.INT8 and len(item.dims) == 2}
    assert len([name for name in weights if ".layer." in name]) == 3 * 6


def test_ranges_are_those_seen(all_quantised: dict[tuple[str, str, str], Quantised]) -> None:
    quantised = all_quantised["bert", "onnxruntime", "int8"]
    network, low, high = quantised.case.network.extract(quantised.case.plain.shape.full()), 0.0, 0.0
    for row in calibration(quantised.case):
        with torch.no_grad():
            embedded = network.bert.embeddings(
                torch.from_numpy(row["input_ids"]), torch.from_numpy(row["token_type_ids"])
            ).numpy()
        low, high = min(low, embedded.min()), max(high, embedded.max())
    values = values_of(quantised.template.model)
    scale = values["attention_0.weight.input_scale"]
    assert scale == pytest.approx((high - low) / 255, rel=1e-4)
    zero_point = values["attention_0.weight.input_zero_point"]
    assert zero_point.dtype == np.uint8
    assert abs(zero_point - -low / scale) <= 0.51


def test_the_same_rows_give_the_same_bytes(quantised: Quantised) -> None:
    again = quantise_template(quantised.source, quantised.runtime, quantised.precision, calibration(quantised.case))
    assert again.model.SerializeToString(deterministic=True) == quantised.template.model.SerializeToString(deterministic=True)
    assert again.cuts == quantised.template.cuts
    assert again.structure == quantised.template.structure != quantised.source.structure


def test_leaves_what_it_quantises(quantised: Quantised) -> None:
    graph = carve(quantised.source, MIXED)
    before = graph.SerializeToString(deterministic=True)
    quantised.again(graph)
    assert graph.SerializeToString(deterministic=True) == before


def test_a_carved_graph_afresh(quantised: Quantised) -> None:
    graph = quantised.again(carve(quantised.source, MIXED))
    carved = carve(quantised.template, MIXED)
    inputs = [quantised.case.inputs(seed) for seed in range(8)]
    exact = [quantised.case.logits(MIXED, row) for row in inputs]
    errors = [np.abs(run(graph, row, quantised.runtime) - want).mean() for row, want in zip(inputs, exact, strict=True)]
    assert np.median(errors) < 0.1
    if quantised.runtime == "onnxruntime":
        fresh, kept = values_of(graph), values_of(carved)
        # cut columns leave the scales of the others alone; cut rows can only make the largest value smaller
        name = "bert.encoder.layer.2.intermediate.dense.weight"
        np.testing.assert_array_equal(fresh[f"{name}.scale"], kept[f"{name}.scale"])
        name = "bert.encoder.layer.2.output.dense.weight"
        assert (fresh[f"{name}.scale"] <= kept[f"{name}.scale"]).all()
        assert (fresh[f"{name}.scale"] < kept[f"{name}.scale"]).any()


def test_without_heads_or_neurons(quantised: Quantised) -> None:
    """As near as other networks, carved from the quantised template or quantised afterwards."""
    architecture = Architecture((0, 1, 2, 3), (0, 3, 2, 0), (64, 0, 5, 33))
    graphs = [carve(quantised.template, architecture), quantised.again(carve(quantised.source, architecture))]
    inputs = [quantised.case.inputs(seed) for seed in range(8)]
    exact = [quantised.case.logits(architecture, row) for row in inputs]
    for graph in graphs:
        errors = [np.abs(run(graph, row, quantised.runtime) - want).mean() for row, want in zip(inputs, exact, strict=True)]
        assert np.median(errors) < 0.1


def test_narrow_weights(quantised: Quantised) -> None:
    narrow = values_of(quantised.again(carve(quantised.source, Architecture((1,), (2,), (9,))), narrow_weights=True))
    weights = [value for name, value in narrow.items() if value.dtype == np.int8 and value.ndim == 2 and ".layer." in name]
    assert weights
    assert max(np.abs(value.astype(int)).max() for value in weights) <= 64


def test_is_kept_like_any_template(quantised: Quantised, tmp_path: Path) -> None:
    quantised.template.save(tmp_path, "template")
    loaded, inputs = Template.load(tmp_path, "template"), quantised.case.inputs(3)
    kept = [run(carve(template, MIXED), inputs, quantised.runtime) for template in (quantised.template, loaded)]
    np.testing.assert_array_equal(*kept)


def test_is_quantised() -> None:
    assert is_quantised("int8")
    assert is_quantised("int8-dynamic")
    assert not is_quantised("fp32")
    assert not is_quantised("bf16")


def test_what_cannot_be(bert: Case) -> None:
    rows = calibration(bert)
    with pytest.raises(BadInput, match="no quantisation to int8-dynamic for openvino; there are: int8 for onnxruntime, "):
        quantise_template(bert.plain, "openvino", "int8-dynamic", rows)
    with pytest.raises(BadInput, match="needs calibration rows"):
        quantise_template(bert.fused, "onnxruntime", "int8", [])
    short = {name: value[:1] for name, value in rows[1].items()}
    shapes = r"calibration row 1: the graph takes attention_mask int64 \(2, 12\), .*given were .* \(1, 12\)"
    with pytest.raises(BadInput, match=shapes):
        quantise_template(bert.fused, "onnxruntime", "int8", [rows[0], short])


def test_values_that_are_no_numbers(bert: Case) -> None:
    graph = carve(bert.fused, MIXED)
    broken = next(item for item in graph.graph.initializer if item.name.endswith("layer.0.intermediate.dense.weight"))
    broken.CopyFrom(numpy_helper.from_array(np.full(tuple(broken.dims), np.nan, np.float32), broken.name))
    with pytest.raises(BadInput, match="calibration row 0: the network computes values that are no numbers"):
        quantise_model(graph, "onnxruntime", "int8", calibration(bert))
