from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from instatune_deploy.devices.runtimes.registry import open_session
from instatune_deploy.graphs.carve import carve
from instatune_deploy.graphs.fuse import fuse_template
from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.supernet.network import SuperNetwork

from .conftest import INPUTS, Case, make_case


def _residual_norms(nodes: Any) -> int:
    """LayerNormalizations of a Sum of two."""
    sums = {node.output[0] for node in nodes if node.op_type == "Sum" and len(node.input) == 2}
    return sum(node.op_type == "LayerNormalization" and node.input[0] in sums for node in nodes)


def _optimised(model: onnx.ModelProto, folder: Path) -> Any:
    """The nodes that ONNX Runtime makes of a model."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns that such a file runs best on the machine that wrote it
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return onnx.load(folder / "optimised.onnx").graph.node


@pytest.mark.parametrize("model_type", list(INPUTS))
@pytest.mark.parametrize("layers", [(0, 1, 2, 3), (1, 3), (2,)])
def test_operators_of_every_kept_layer(cases: dict[str, Case], model_type: str, layers: tuple[int, ...]) -> None:
    depth = len(layers)
    architecture = Architecture(layers, tuple(range(1, depth + 1)), (10,) * depth)
    nodes = carve(cases[model_type].fused, architecture).graph.node
    counts = Counter(node.op_type for node in nodes)
    assert counts["Attention"] == depth
    assert _residual_norms(nodes) >= 2 * depth  # after attention and after the MLP; electra's and bert's embeddings have one too
    assert counts["BiasGelu"] == depth
    assert not {"Softmax", "Erf"} & set(counts)
    assert counts["Transpose"] == ("pixel_values" in INPUTS[model_type])  # of the patches, once
    heads = {node.name: item.i for node in nodes for item in node.attribute if item.name == "num_heads"}
    assert heads == {f"attention_{layer}": index + 1 for index, layer in enumerate(layers)}


@pytest.mark.parametrize("shapes", ["static", "open"])
@pytest.mark.parametrize("model_type", list(INPUTS))
@settings(max_examples=6, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_the_runtime_runs_is_fused_in_every_layer(
    cases: dict[str, Case],
    open_cases: dict[str, Case],
    any_architecture: Any,
    tmp_path: Path,
    model_type: str,
    shapes: str,
    data: st.DataObject,
) -> None:
    """After ONNX Runtime's own optimisations too, whatever the heads of the layers are."""
    architecture: Architecture = data.draw(any_architecture)
    case = (cases if shapes == "static" else open_cases)[model_type]
    nodes = _optimised(carve(case.fused, architecture), tmp_path)
    heads = [item.i for node in nodes if node.op_type == "Attention" for item in node.attribute if item.name == "num_heads"]
    # a layer without heads has no Attention, one without neurons no GELU
    assert heads == [count for count in architecture.heads if count]
    names = [node.name for node in nodes if node.op_type == "Attention"]
    assert names == [f"attention_{layer}" for layer, count, _ in architecture.per_layer() if count]
    # the runtime's SkipLayerNormalization is slower on the CPU: the layers' sums are left alone
    counts = Counter(node.op_type for node in nodes)
    assert counts["SkipLayerNormalization"] == 0
    images = "pixel_values" in INPUTS[model_type]
    if images:  # normalised is what attention and MLP take in, where there is one, and what comes out at the end
        assert _residual_norms(nodes) == counts["LayerNormalization"] == len(heads) + sum(map(bool, architecture.mlp_widths)) + 1
    else:
        assert _residual_norms(nodes) >= 2 * architecture.depth
    assert counts["BiasGelu"] == sum(width > 0 for width in architecture.mlp_widths)
    assert counts["Transpose"] == images  # of the patches, once
    assert not {"Softmax", "Erf", "MultiHeadAttention"} & set(counts)


@pytest.mark.parametrize("model_type", ["vit", "deit"])
@pytest.mark.parametrize(
    ("architecture", "attentions", "gelus", "norms"),
    [
        (Architecture((0, 1, 2, 3), (4, 4, 4, 4), (64, 64, 64, 64)), 4, 4, 9),  # two a layer, and the last
        (Architecture((1, 3), (3, 2), (20, 7)), 2, 2, 5),  # fewer layers, heads and neurons
        (Architecture((0, 2), (0, 3), (10, 0)), 1, 1, 3),  # one has no attention, the other no MLP: nor the norms before them
        (Architecture((0, 1, 2), (0, 0, 1), (8, 8, 0)), 1, 2, 4),
        (Architecture((2,), (1,), (0,)), 1, 0, 2),
    ],
    ids=str,
)
def test_what_the_runtime_runs_of_a_pruned_vit(
    cases: dict[str, Case],
    tmp_path: Path,
    model_type: str,
    architecture: Architecture,
    attentions: int,
    gelus: int,
    norms: int,
) -> None:
    """Everything there is, by hand."""
    counts = Counter(node.op_type for node in _optimised(carve(cases[model_type].fused, architecture), tmp_path))
    # the positions are added, and every layer adds twice: of what is gone its bias
    sums = 1 + 2 * architecture.depth
    expected = {"Attention": attentions, "BiasGelu": gelus, "LayerNormalization": norms, "Sum": sums}
    expected |= {"Conv": 1, "Transpose": 1, "Concat": 1, "Gather": 1}  # patches, beside the class token, which is classified
    # of each attention the output matrix; of each MLP two; and the classifier
    matrices = attentions + 2 * gelus + 1
    assert counts["MatMul"] + counts["Gemm"] == matrices
    layouts = {"MatMul", "Gemm", "Reshape", "ReorderOutput"}  # the runtime's own choice
    assert {name: count for name, count in counts.items() if name not in layouts} == +Counter(expected)


def test_a_layer_that_does_not_fuse_is_an_error(bert: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def lose_norms(model: onnx.ModelProto, *_: object, **__: object) -> SimpleNamespace:
        for node in model.graph.node:
            if node.op_type == "LayerNormalization":
                node.op_type = "Identity"
        return SimpleNamespace(model=model)

    monkeypatch.setattr("onnxruntime.transformers.optimizer.optimize_by_fusion", lose_norms)
    with pytest.raises(RuntimeError, match=r"^the fused graph has 0 normalised Sum nodes where 8 were expected$"):
        fuse_template(bert.plain, bert.network.family)


def test_leaves_the_plain_template(bert: Case) -> None:
    plain = bert.plain
    assert not plain.attention
    assert {node.domain for node in plain.model.graph.node} == {""}
    assert "bert.encoder.layer.0.attention.self.query.weight" in {item.name for item in plain.model.graph.initializer}
    assert bert.fused.attention == ("attention_0", "attention_1", "attention_2", "attention_3")
    assert bert.fused.boundaries == plain.boundaries
    assert bert.fused.shape == plain.shape


def test_a_graph_without_mask(make_model: Callable[..., Any]) -> None:
    case = make_case(SuperNetwork(make_model(num_hidden_layers=2)), ("input_ids",))
    assert "attention_mask_int32" not in {name for node in case.fused.model.graph.node for name in node.input}
    inputs, architecture = case.inputs(0, padded=False), Architecture((0, 1), (1, 3), (9, 64))
    with closing(open_session(carve(case.fused, architecture).SerializeToString(), "onnxruntime", "fp32", 1)) as session:
        np.testing.assert_allclose(session.run(inputs)["logits"], case.logits(architecture, inputs), rtol=0, atol=1e-4)
