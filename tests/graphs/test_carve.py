from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from instatune_deploy.devices.runtimes.registry import open_session
from instatune_deploy.graphs.carve import carve
from instatune_deploy.graphs.export import export_template
from instatune_deploy.graphs.template import Template
from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.supernet.network import SuperNetwork

from .conftest import INPUTS, Case

MIXED = Architecture((0, 2, 3), (3, 1, 4), (64, 5, 33))


def run(graph: onnx.ModelProto, inputs: dict[str, np.ndarray], runtime: str = "onnxruntime") -> np.ndarray:
    with closing(open_session(graph.SerializeToString(), runtime, "fp32", 1)) as session:
        outputs = session.run(inputs)
    assert list(outputs) == ["logits"]
    return outputs["logits"]


@pytest.mark.parametrize("variant", ["plain", "fused"])
@pytest.mark.parametrize("model_type", list(INPUTS))
@settings(max_examples=10, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), seed=st.integers(0, 99), padded=st.booleans())
def test_onnxruntime_computes_what_is_extracted(
    cases: dict[str, Case], any_architecture: Any, model_type: str, variant: str, data: st.DataObject, seed: int, padded: bool
) -> None:
    case, architecture = cases[model_type], data.draw(any_architecture)
    inputs = case.inputs(seed, padded)
    graph = carve(getattr(case, variant), architecture)
    np.testing.assert_allclose(run(graph, inputs), case.logits(architecture, inputs), rtol=0, atol=1e-4)


@pytest.mark.parametrize("model_type", list(INPUTS))
@settings(max_examples=4, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), seed=st.integers(0, 99), padded=st.booleans())
def test_openvino_computes_what_is_extracted(
    cases: dict[str, Case], any_architecture: Any, model_type: str, data: st.DataObject, seed: int, padded: bool
) -> None:
    case, architecture = cases[model_type], data.draw(any_architecture)
    inputs = case.inputs(seed, padded)
    graph = carve(case.plain, architecture)
    np.testing.assert_allclose(run(graph, inputs, "openvino"), case.logits(architecture, inputs), rtol=0, atol=1e-4)


@pytest.mark.parametrize("model_type", ["vit", "deit"])
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_smaller_images_have_a_template_of_their_own(make_model: Any, model_type: str, runtime: str) -> None:
    """Exported at 8 px of a network of 16: what is carved computes what is extracted for images of that size."""
    network = SuperNetwork(make_model(model_type, image_size=16))
    images = np.random.default_rng(0).standard_normal((2, 3, 8, 8), dtype=np.float32)
    template = export_template(network, {"pixel_values": torch.from_numpy(images)})
    architecture = replace(MIXED, image_size=8)
    with torch.no_grad():
        expected = network.extract(architecture)(pixel_values=torch.from_numpy(images)).logits.numpy()
    found = run(carve(template, architecture), {"pixel_values": images}, runtime)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match="the template is for images of 8 px; the architecture takes 12 px"):
        carve(template, replace(MIXED, image_size=12))


@pytest.mark.parametrize("variant", ["plain", "fused"])
def test_full_is_the_export(bert: Case, variant: str) -> None:
    template: Template = getattr(bert, variant)
    inputs = bert.inputs(0)
    with closing(open_session(template.model.SerializeToString(), "onnxruntime", "fp32", 1)) as session:
        exported = session.run(inputs)["logits"]
    np.testing.assert_allclose(run(carve(template, template.shape.full()), inputs), exported, rtol=0, atol=1e-6)


@pytest.mark.parametrize("variant", ["plain", "fused"])
def test_carving_leaves_the_template(bert: Case, variant: str) -> None:
    template: Template = getattr(bert, variant)
    before = template.model.SerializeToString(deterministic=True)
    one, other = carve(template, MIXED), carve(template, MIXED)
    assert template.model.SerializeToString(deterministic=True) == before
    assert one.SerializeToString(deterministic=True) == other.SerializeToString(deterministic=True)


@pytest.mark.parametrize("variant", ["plain", "fused"])
def test_holds_only_what_it_needs(bert: Case, variant: str) -> None:
    graph = carve(getattr(bert, variant), MIXED).graph
    read = {name for node in graph.node for name in node.input}
    assert {item.name for item in graph.initializer} <= read
    assert not [item.name for item in graph.initializer if "layer.1." in item.name or item.name.startswith("attention_1.")]
    assert [item.name for item in graph.input] == list(bert.names)
    floats = sum(numpy_helper.to_array(item).size for item in graph.initializer if item.data_type == onnx.TensorProto.FLOAT)
    # the graph has no parameter but those of the network, and constants of a few numbers; 12 of 40 positions may be cut out
    parameters = bert.network.shape.parameters_of(MIXED)
    assert parameters - 28 * 32 <= floats <= parameters + 20


def test_is_valid_onnx(bert: Case) -> None:
    onnx.checker.check_model(carve(bert.plain, MIXED), full_check=True)


def test_weights_are_the_first_of_each_layer(bert: Case) -> None:
    values = {item.name: numpy_helper.to_array(item) for item in carve(bert.plain, MIXED).graph.initializer}
    small = dict(bert.network.extract(MIXED).named_parameters())
    for place, layer in enumerate(MIXED.layers):
        for name in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            weight = small[f"bert.encoder.layer.{place}.{name}.weight"].detach().numpy()
            np.testing.assert_array_equal(values[f"bert.encoder.layer.{layer}.{name}.weight"], weight.T)
        bias = small[f"bert.encoder.layer.{place}.intermediate.dense.bias"].detach().numpy()
        np.testing.assert_array_equal(values[f"bert.encoder.layer.{layer}.intermediate.dense.bias"], bias)


def test_packed_weights_are_cut_in_every_third(bert: Case) -> None:
    values = {item.name: numpy_helper.to_array(item) for item in carve(bert.fused, MIXED).graph.initializer}
    small = bert.network.extract(MIXED).bert.encoder.layer[1].attention.self
    expected = np.concatenate([small.get_submodule(name).weight.detach().numpy().T for name in ("query", "key", "value")], axis=1)
    assert expected.shape == (32, 24)
    np.testing.assert_array_equal(values["attention_2.weight"], expected)
    biases = [small.get_submodule(name).bias.detach().numpy() for name in ("query", "key", "value")]
    np.testing.assert_array_equal(values["attention_2.bias"], np.concatenate(biases))


def test_attention_says_its_heads(bert: Case) -> None:
    nodes = [node for node in carve(bert.fused, MIXED).graph.node if node.op_type == "Attention"]
    attributes = [{item.name: onnx.helper.get_attribute_value(item) for item in node.attribute} for node in nodes]
    assert [item["num_heads"] for item in attributes] == [3, 1, 4]
    assert [item["qkv_hidden_sizes"] for item in attributes] == [[24] * 3, [8] * 3, [32] * 3]
