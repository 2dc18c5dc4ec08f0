from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from instatune_deploy.devices.runtimes.registry import open_session
from instatune_deploy.graphs.carve import carve
from instatune_deploy.graphs.export import export_model
from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.supernet.load import model_from_config
from instatune_deploy.supernet.network import SuperNetwork

from .conftest import INPUTS, ROWS, TOKENS, Case, make_case


def without_weights(model: onnx.ModelProto) -> bytes:
    """The serialised graph but for the numbers in it."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for item in copy.graph.initializer:
        item.ClearField("raw_data")
    return copy.SerializeToString()


PATHS = {
    "encoder.layer": (
        ("attention.self.query", "attention.self.key", "attention.self.value"),
        "attention.output.dense",
        "intermediate.dense",
        "output.dense",
    ),
    "layers": (("attention.q_proj", "attention.k_proj", "attention.v_proj"), "attention.o_proj", "mlp.fc1", "mlp.fc2"),
}


@pytest.mark.parametrize("model_type", list(INPUTS))
def test_template_names_what_can_be_cut(cases: dict[str, Case], model_type: str) -> None:
    template, network = cases[model_type].plain, cases[model_type].network
    values = {item.name: tuple(item.dims) for item in template.model.graph.initializer}
    heads_out, heads_in, mlp_out, mlp_in = PATHS[network.family.layers]
    prefix = f"{network.model.base_model_prefix}.{network.family.layers}"
    for layer, cuts in enumerate(template.cuts):
        found = {(cut.initializer.removeprefix(f"{prefix}.{layer}."), cut.axis, cut.by, cut.groups) for cut in cuts}
        assert found == {
            *((f"{path}.weight", 1, "heads", 1) for path in heads_out),
            *((f"{path}.bias", 0, "heads", 1) for path in heads_out),
            (f"{heads_in}.weight", 0, "heads", 1),
            (f"{mlp_out}.weight", 1, "mlp", 1),
            (f"{mlp_out}.bias", 0, "mlp", 1),
            (f"{mlp_in}.weight", 0, "mlp", 1),
        }
        remainders = [(item.bias.removeprefix(f"{prefix}.{layer}."), item.by) for item in template.remainders[layer]]
        assert remainders == [(f"{heads_in}.bias", "heads"), (f"{mlp_in}.bias", "mlp")]
        for cut in cuts:
            assert values[cut.initializer][cut.axis] == (32 if cut.by == "heads" else 64)


def test_template_has_static_inputs_and_boundaries(bert: Case) -> None:
    graph = bert.plain.model.graph
    shapes = {item.name: [size.dim_value for size in item.type.tensor_type.shape.dim] for item in (*graph.input, *graph.output)}
    assert shapes == {
        **{name: [ROWS, TOKENS] for name in bert.names},
        "logits": [ROWS, 2],
        **{f"boundary_{index}": [ROWS, TOKENS, 32] for index in range(5)},
    }
    assert bert.plain.boundaries == tuple(f"boundary_{index}" for index in range(5))


def test_boundaries_are_the_hidden_states(bert: Case) -> None:
    inputs = bert.inputs(0)
    with closing(open_session(bert.plain.model.SerializeToString(), "onnxruntime", "fp32", 1)) as session:
        outputs = session.run(inputs)
    model = bert.network.extract(bert.network.shape.full())
    with torch.no_grad():
        states = model(**{name: torch.from_numpy(value) for name, value in inputs.items()}, output_hidden_states=True)
    for name, state in zip(bert.plain.boundaries, states.hidden_states, strict=True):
        np.testing.assert_allclose(outputs[name], state.numpy(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("variant", ["plain", "fused"])
@pytest.mark.parametrize("model_type", list(INPUTS))
def test_nothing_of_the_exporting_machine_remains(cases: dict[str, Case], model_type: str, variant: str) -> None:
    template = getattr(cases[model_type], variant)
    for model in (template.model, carve(template, Architecture((1, 3), (2, 3), (7, 64)))):
        graph = model.graph
        for item in (*graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info):
            assert not item.metadata_props
            assert not item.doc_string
        assert not [*model.metadata_props, *graph.metadata_props, *model.functions]
        text = without_weights(model)
        for leftover in (b"/home", b"/usr", b".py", b"site-packages", b"pkg.torch", b"torch.ops"):
            assert leftover not in text


def test_equal_weights_are_not_confused(make_config: Callable[..., Any]) -> None:
    """The exporter merges equal initialisers, and all biases of a model as transformers starts it are zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = model_from_config(make_config(num_hidden_layers=2, intermediate_size=32, initializer_range=0.3)).eval()
    layers = model.bert.encoder.layer
    layers[1].load_state_dict(layers[0].state_dict())
    case = make_case(SuperNetwork(model), INPUTS["bert"])
    inputs = case.inputs(0)
    for architecture in (Architecture((0, 1), (3, 2), (32, 9)), Architecture((1,), (1,), (20,)), case.network.shape.full()):
        expected = case.logits(architecture, inputs)
        for template in (case.plain, case.fused):
            with closing(open_session(carve(template, architecture).SerializeToString(), "onnxruntime", "fp32", 1)) as session:
                np.testing.assert_allclose(session.run(inputs)["logits"], expected, rtol=0, atol=1e-4)


def test_ordinary_model_and_its_mode(bert: Case) -> None:
    model = bert.network.extract(Architecture((0, 3), (2, 4), (5, 64))).train()
    inputs = bert.inputs(1)
    graph = export_model(model, {name: torch.from_numpy(value) for name, value in inputs.items()})
    assert model.training
    assert [item.name for item in graph.graph.output] == ["logits"]
    with torch.no_grad():
        expected = model.eval()(**{name: torch.from_numpy(value) for name, value in inputs.items()}).logits.numpy()
    with closing(open_session(graph.SerializeToString(), "onnxruntime", "fp32", 1)) as session:
        np.testing.assert_allclose(session.run(inputs)["logits"], expected, rtol=0, atol=1e-4)
    assert b".py" not in without_weights(graph)
