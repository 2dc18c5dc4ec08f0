"""Real runtimes in this process, and sessions that only seem to be some."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from instatune_deploy.config import TimingSettings
from instatune_deploy.devices import cpus, probe
from instatune_deploy.devices.latency import Timing
from instatune_deploy.devices.probe import Outcome, Probe, reference_run
from instatune_deploy.devices.reference import write_reference
from instatune_deploy.devices.runs import Run
from instatune_deploy.devices.runtimes.base import Refused, RunFailed
from instatune_deploy.devices.runtimes.modules import version

from .conftest import QUICK, TIMING

RUN = Run("onnxruntime", "fp32", 1)


@dataclass
class FakeSession:
    """Takes any inputs; ``fails`` when it is bound."""

    run: Run
    fails: Exception | None = None
    bound: list[Any] = field(default_factory=list)
    closed: int = 0
    input_names: tuple[str, ...] = ("x",)

    @property
    def input_shapes(self) -> dict[str, tuple[int | None, ...]]:
        return {"x": (None, 3)}

    def bind(self, inputs: Any) -> Callable[[], object]:
        if self.fails is not None:
            raise self.fails
        self.bound.append(inputs)
        return lambda: None

    def describe(self) -> dict[str, Any]:
        return {"version": "1", "of": str(self.run)}

    def close(self) -> None:
        self.closed += 1


@dataclass
class Sessions:
    """Opens fake sessions and keeps them. ``fails``: those of graphs, not of the reference model."""

    fails: Exception | None = None
    opened: dict[str, list[FakeSession]] = field(default_factory=dict)

    def __call__(self, graph: Any, run: Run) -> Any:
        is_reference = str(graph) == "reference.onnx"
        session = FakeSession(run, None if is_reference else self.fails)
        self.opened.setdefault("reference" if is_reference else "graph", []).append(session)
        return session

    def probe(self) -> Probe:
        return Probe(Path("reference.onnx"), self)


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpus, "others_cores", lambda before, after: 0.126)
    # for good, in the process of all tests
    monkeypatch.setattr("instatune_deploy.devices.runtimes.onnxruntime.share_threads", lambda threads: False)


def scripted(monkeypatch: pytest.MonkeyPatch, *results: tuple[Timing, str | None]) -> list[dict[str, Any]]:
    """Results of the protocol, one after the other; what it was asked."""
    left, asked = list(results), []

    def measure(run_once: object, rules: object, **said: Any) -> tuple[Timing, str | None]:
        asked.append(said)
        return left.pop(0)

    monkeypatch.setattr(probe, "measure", measure)
    return asked


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_real_graph(graph: bytes, inputs: dict[str, Any], runtime: str, tmp_path: Path) -> None:
    run = Run(runtime, "fp32", 1)
    made = Probe(write_reference(tmp_path))
    nominal_ms, why = made.nominal_ms(run, QUICK)
    assert why is None
    assert nominal_ms is not None
    outcome = made.measure(graph, inputs, run, QUICK, nominal_ms)
    made.close()
    assert outcome.timing is not None
    assert 0 < outcome.timing.p50_ms <= outcome.timing.p90_ms
    assert outcome.timing.nominal_ms == nominal_ms
    assert outcome.timing.reference_ms is not None
    assert outcome.version == version(runtime)
    assert outcome.circumstances["runtime_says"]["threads"] == 1
    assert outcome.circumstances["others_cores"] == 0.13
    assert "gpu_after" not in outcome.circumstances
    assert Outcome.from_json(json.loads(json.dumps(outcome.to_json(), allow_nan=False))) == outcome


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_real_graph_that_is_refused(graph: bytes, inputs: dict[str, Any], runtime: str, tmp_path: Path) -> None:
    made, run = Probe(write_reference(tmp_path)), Run(runtime, "fp32", 1)
    with pytest.raises(Refused, match="cannot load it"):
        made.measure(b"no graph", inputs, run, QUICK, None)
    with pytest.raises(Refused, match="given were ids"):
        made.measure(graph, {"ids": inputs["ids"]}, run, QUICK, None)
    with pytest.raises(Refused, match="unknown runtime 'torch'"):
        made.measure(graph, inputs, Run("torch", "fp32", 1), QUICK, None)
    made.close()


def test_an_unstable_one_is_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    noisy = replace(TIMING, stable=False, p50_ms=9.0)
    asked = scripted(monkeypatch, (noisy, "a neighbour"), (TIMING, None))
    sessions = Sessions()
    outcome = sessions.probe().measure(b"", {}, RUN._replace(threads=3), QUICK, 2.5)
    assert (outcome.timing, outcome.why, outcome.circumstances["attempts"]) == (TIMING, None, 2)
    assert [(said["threads"], said["reference"].nominal_ms) for said in asked] == [(3, 2.5), (3, 2.5)]
    (session,) = sessions.opened["graph"]
    assert (len(session.bound), session.closed) == (1, 1)


def test_a_stable_one_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, (TIMING, None))
    assert Sessions().probe().measure(b"", {}, RUN, QUICK, None).circumstances["attempts"] == 1


def test_twice_unstable_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = replace(TIMING, stable=False, windows=10), replace(TIMING, stable=False, windows=9)
    scripted(monkeypatch, (first, "a neighbour"), (second, "another neighbour"))
    outcome = Sessions().probe().measure(b"", {}, RUN, QUICK, None)
    assert (outcome.timing, outcome.why, outcome.circumstances["attempts"]) == (second, "another neighbour", 2)


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (RunFailed("bad allocation"), "it could not be run: bad allocation"),
        (MemoryError(), "it could not be run: out of memory"),
    ],
)
def test_what_cannot_run_is_recorded(error: Exception, why: str) -> None:
    sessions = Sessions(error)
    outcome = sessions.probe().measure(b"", {}, RUN, QUICK, None)
    assert (outcome.timing, outcome.why) == (None, why)
    assert outcome.circumstances["attempts"] == 0
    assert outcome.circumstances["runtime_says"] == {"version": "1", "of": "onnxruntime fp32, 1 thread"}
    assert sessions.opened["graph"][0].closed == 1
    assert Outcome.from_json(json.loads(json.dumps(outcome.to_json()))) == outcome


def test_the_reference_model_is_loaded_once_for_each_way_of_running(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, *[(TIMING, None)] * 4)
    sessions = Sessions()
    made = sessions.probe()
    for run in (RUN, RUN, RUN._replace(precision="int8"), RUN._replace(threads=2)):
        made.measure(b"", {}, run, QUICK, None)
    references = sessions.opened["reference"]
    assert [session.run for session in references] == [RUN, RUN._replace(threads=2)]
    (inputs,) = references[0].bound
    assert (inputs["x"].shape, inputs["x"].dtype) == ((1, 3), np.float32)
    assert [session.closed for session in references] == [0, 0]
    made.close()
    made.close()
    assert [session.closed for session in references] == [1, 1]


@pytest.mark.parametrize(
    ("run", "beside"),
    [
        (Run("onnxruntime", "fp32", 2), "fp32"),
        (Run("onnxruntime", "int8", 2), "fp32"),
        (Run("onnxruntime", "int8-dynamic", 2), "fp32"),
        (Run("onnxruntime", "fp16", 2, "cuda"), "fp32"),
        (Run("openvino", "fp32", 2), "fp32"),
        (Run("openvino", "bf16", 2), "bf16"),
        (Run("openvino", "fp16", 2, "gpu"), "fp16"),
        (Run("openvino", "int8", 2, "gpu"), "fp32"),
        (Run("openvino", "int8", 2, "npu"), "fp16"),
    ],
)
def test_how_the_reference_runs(run: Run, beside: str) -> None:
    assert reference_run(run) == run._replace(precision=beside)


def test_gpus_are_described_after_a_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, (TIMING, None))
    monkeypatch.setattr(probe, "gpu_state", lambda: {"name": "A GPU"})
    outcome = Sessions().probe().measure(b"", {}, RUN._replace(provider="cuda"), QUICK, None)
    assert outcome.circumstances["gpu_after"] == {"name": "A GPU"}


def test_nobody_tells_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, (TIMING, None))
    monkeypatch.setattr(cpus, "others_cores", lambda before, after: None)
    assert Sessions().probe().measure(b"", {}, RUN, QUICK, None).circumstances["others_cores"] is None


def test_calibration_is_of_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def calibrate(run_once: object, rules: TimingSettings, *, threads: int) -> tuple[float | None, str | None]:
        asked.append((rules, threads))
        return None, "a neighbour"

    monkeypatch.setattr(probe, "calibrate", calibrate)
    sessions = Sessions()
    assert sessions.probe().nominal_ms(RUN._replace(threads=2), QUICK) == (None, "a neighbour")
    assert asked == [(QUICK, 2)]
    assert list(sessions.opened) == ["reference"]
