from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from instatune_deploy.devices.runtimes.registry import open_session
from instatune_deploy.graphs.carve import carve
from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.supernet.network import SuperNetwork

from .conftest import ALL_INPUTS, PIXELS, Case, make_case

UNEVEN = Architecture((0, 2, 3), (3, 1, 4), (64, 5, 33))
SHAPES = [(1, 1), (1, 12), (7, 1), (4, 12), (2, 3), (8, 8), (4, 32), (5, 38)]
"""One of either, equal ones, those of the hidden size and the number of heads, and the longest (roberta has 38 positions)."""


def check(case: Case, variant: str, runtime: str, architecture: Architecture, shapes: list[tuple[int, int]], seed: int) -> None:
    graph = carve(getattr(case, variant), architecture)
    with closing(open_session(graph.SerializeToString(), runtime, "fp32", 1)) as session:
        # of images the batch alone
        assert session.input_shapes == dict.fromkeys(
            case.names, (None, *PIXELS) if "pixel_values" in case.names else (None, None)
        )
        for rows, tokens in shapes:
            inputs = case.inputs(seed, rows=rows, tokens=tokens)
            np.testing.assert_allclose(session.run(inputs)["logits"], case.logits(architecture, inputs), rtol=0, atol=1e-4)


@pytest.mark.parametrize("variant", ["plain", "fused"])
@pytest.mark.parametrize("model_type", list(ALL_INPUTS))
@settings(max_examples=6, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), seed=st.integers(0, 99))
def test_onnxruntime_computes_what_is_extracted(
    open_cases: dict[str, Case], any_architecture: Any, model_type: str, variant: str, data: st.DataObject, seed: int
) -> None:
    check(open_cases[model_type], variant, "onnxruntime", data.draw(any_architecture), SHAPES, seed)


@pytest.mark.parametrize("model_type", list(ALL_INPUTS))
@settings(max_examples=2, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 99))
def test_openvino_computes_what_is_extracted(open_cases: dict[str, Case], model_type: str, seed: int) -> None:
    check(open_cases[model_type], "plain", "openvino", UNEVEN, SHAPES, seed)


@settings(max_examples=10)
@example(rows=1, tokens=40)
@given(rows=st.integers(1, 40), tokens=st.integers(1, 40))
def test_any_shape(open_cases: dict[str, Case], rows: int, tokens: int) -> None:
    for variant in ("plain", "fused"):
        check(open_cases["bert"], variant, "onnxruntime", UNEVEN, [(rows, tokens)], rows + tokens)


def test_a_row_does_not_depend_on_the_padding_of_its_batch(open_cases: dict[str, Case]) -> None:
    """What a batch padded to its own longest row gives is what padding to the maximum gives."""
    for case in open_cases.values():
        if "pixel_values" in case.names:
            continue
        inputs = case.inputs(3, rows=6, tokens=10)
        padding = {"input_ids": case.network.config.pad_token_id, "attention_mask": 0, "token_type_ids": 0}
        longer = {name: np.pad(value, ((0, 0), (0, 25)), constant_values=padding[name]) for name, value in inputs.items()}
        with closing(open_session(carve(case.fused, UNEVEN).SerializeToString(), "onnxruntime", "fp32", 1)) as session:
            short, long = (session.run(item)["logits"] for item in (inputs, longer))
        np.testing.assert_allclose(short, long, rtol=0, atol=1e-4)


@pytest.mark.parametrize("model_type", list(ALL_INPUTS))
def test_same_cuts_and_operators_as_with_static_shapes(
    open_cases: dict[str, Case], cases: dict[str, Case], model_type: str
) -> None:
    case = open_cases[model_type]
    operators = Counter(node.op_type for node in carve(case.fused, UNEVEN).graph.node)
    assert (operators["Attention"], operators["BiasGelu"], operators["SkipLayerNormalization"]) == (3, 3, 0)
    assert operators["Sum"] >= 6
    if model_type in cases:
        static = cases[model_type]
        assert (case.plain.cuts, case.fused.cuts) == (static.plain.cuts, static.fused.cuts)
        assert case.plain.boundaries == static.plain.boundaries
        assert {case.plain.structure, case.fused.structure}.isdisjoint({static.plain.structure, static.fused.structure})


def test_a_graph_without_mask(make_model: Callable[..., Any]) -> None:
    case = make_case(SuperNetwork(make_model(num_hidden_layers=2)), ("input_ids",), open_shapes=True)
    architecture = Architecture((0, 1), (1, 3), (9, 64))
    for variant in ("plain", "fused"):
        with closing(
            open_session(carve(getattr(case, variant), architecture).SerializeToString(), "onnxruntime", "fp32", 1)
        ) as session:
            for rows, tokens in SHAPES:
                inputs = case.inputs(0, padded=False, rows=rows, tokens=tokens)
                np.testing.assert_allclose(session.run(inputs)["logits"], case.logits(architecture, inputs), rtol=0, atol=1e-4)
