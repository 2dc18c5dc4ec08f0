from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from instatune_deploy.artifact import parity as parity_file
from instatune_deploy.artifact.graph_files import write_graph
from instatune_deploy.artifact.parity import Parity, check_parity, compare, tolerance
from instatune_deploy.artifact.samples import Samples
from instatune_deploy.config import Precision
from instatune_deploy.devices.runtimes.base import RunFailed
from instatune_deploy.errors import BadInput, VerificationFailed

from .tiny import RUNTIMES, tiny_deployment, tiny_graph, tiny_samples


def test_compare_by_hand() -> None:
    expected = np.array([[1.0, 2.0], [3.0, 0.0], [0.1, 0.2]], np.float32)
    found = np.array([[1.0, 2.25], [3.0, 0.0], [0.3, 0.2]], np.float32)
    assert compare(expected, found, 0.5) == Parity(max_abs_diff=0.25, rows=3, tolerance=0.5, changed_decisions=1)


@pytest.mark.parametrize(
    ("difference", "ok"), [(0.0, True), (1e-4, True), (1.1e-4, False), (float("nan"), False), (float("inf"), False)]
)
def test_within_the_tolerance(difference: float, ok: bool) -> None:
    assert Parity(difference, 3, 1e-4, 0).ok is ok


def test_logits_that_are_no_numbers_are_no_parity() -> None:
    expected = np.zeros((2, 2), np.float32)
    assert not compare(expected, np.array([[0, np.nan], [0, 0]], np.float32), 1.0).ok


def test_another_shape_is_no_parity() -> None:
    assert not compare(np.zeros((2, 2)), np.zeros((2, 3)), 1.0).ok


def test_tolerances() -> None:
    assert tolerance("fp32", np.array([[30.0, -60.0]])) == 1e-4
    assert tolerance("bf16", np.array([[0.25, -0.5]])) == pytest.approx(0.05)
    assert tolerance("bf16", np.array([[1.0, -3.0]])) == pytest.approx(0.15)
    assert tolerance("fp16", np.array([[1.0, -3.0]])) == pytest.approx(0.03)
    assert tolerance("int8", np.array([[1.0, -3.0]])) == tolerance("int8-dynamic", np.array([[3.0]])) == pytest.approx(1.5)


def test_every_precision_has_a_tolerance() -> None:
    for precision in get_args(Precision):
        assert 0 < tolerance(precision, np.array([[1.0, -3.0]])) < 3


FINITE = st.floats(-10, 10, width=32)


@given(arrays(np.float32, (4, 3), elements=FINITE), arrays(np.float32, (4, 3), elements=FINITE))
def test_a_clear_decision_cannot_change_within_the_tolerance(expected: np.ndarray, moved: np.ndarray) -> None:
    """Why parity asks for nothing but the largest difference."""
    parity = compare(expected, moved, 0.5)
    ordered = np.sort(expected.astype(np.float64), axis=1)
    clear = ordered[:, -1] - ordered[:, -2] > 2 * parity.tolerance
    changed = expected.argmax(axis=1) != moved.argmax(axis=1)
    assert not parity.ok or not (clear & changed).any()


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("batch_size", [1, 2])
def test_every_row_is_compared(tmp_path: Path, runtime: str, batch_size: int) -> None:
    samples = tiny_samples(rows=5)
    write_graph(tiny_graph(batch_size), runtime, "fp32", tmp_path)
    parity = check_parity(tmp_path, tiny_deployment(runtime, batch_size), samples, 1e-4)
    assert (parity.ok, parity.rows, parity.changed_decisions) == (True, 5, 0)
    moved = samples.logits.copy()
    moved[-1, 0] += 0.5
    worse = check_parity(tmp_path, tiny_deployment(runtime, batch_size), Samples(samples.inputs, moved), 1e-4)
    assert worse.max_abs_diff == pytest.approx(0.5, abs=1e-4)
    assert not worse.ok


def test_a_graph_of_another_kind(tmp_path: Path) -> None:
    samples = tiny_samples()
    write_graph(tiny_graph(batch_size=2), "onnxruntime", "fp32", tmp_path)
    with pytest.raises(BadInput, match="the graph takes int64 of shape"):
        check_parity(tmp_path, tiny_deployment("onnxruntime"), samples, 1e-4)
    model = tiny_graph()
    model.graph.output[0].name = "scores"
    model.graph.node[-1].output[0] = "scores"
    write_graph(model, "onnxruntime", "fp32", tmp_path)
    with pytest.raises(VerificationFailed, match="no output 'logits', only scores"):
        check_parity(tmp_path, tiny_deployment("onnxruntime"), samples, 1e-4)


@pytest.mark.parametrize("fails", ["open_session", "run_rows"])
def test_memory_that_runs_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    def fail(*_: object) -> None:
        raise RunFailed("bad allocation")

    write_graph(tiny_graph(), "onnxruntime", "fp32", tmp_path)
    monkeypatch.setattr(parity_file, fails, fail)
    with pytest.raises(VerificationFailed, match=r"model\.onnx: it could not be run: bad allocation"):
        check_parity(tmp_path, tiny_deployment("onnxruntime"), tiny_samples(), 1e-4)


def test_what_this_host_cannot_run(tmp_path: Path) -> None:
    write_graph(tiny_graph(), "onnxruntime", "fp32", tmp_path)
    for changes, message in (
        ({"precision": "bf16"}, "onnxruntime does not run bf16 on cpu"),
        ({"provider": "npu"}, "onnxruntime has no provider 'npu'"),
    ):
        with pytest.raises(BadInput, match=message):
            check_parity(tmp_path, replace(tiny_deployment("onnxruntime"), **changes), tiny_samples(), 1e-4)
