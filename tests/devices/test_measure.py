from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from instatune_deploy.config import ProfileSettings, TimingSettings
from instatune_deploy.devices import circumstances, timing
from instatune_deploy.devices.deployment import Timing
from instatune_deploy.devices.host import this_host
from instatune_deploy.devices.measure import key_of, measure_graph
from instatune_deploy.devices.profile import Device, Run, resolve
from instatune_deploy.devices.runtimes import registry
from instatune_deploy.devices.runtimes.base import RunFailed
from instatune_deploy.errors import BadInput
from instatune_deploy.supernet.architecture import Architecture

from .conftest import TIMING

A = Architecture((0,), (4,), (16,))


@pytest.fixture
def device() -> Device:
    quick = TimingSettings(window_ms=1, min_runs_per_window=3, max_warmup_windows=2, max_windows=3, tolerance=0.9)
    runs = [{"runtime": "onnxruntime"}, {"runtime": "openvino"}]
    settings = ProfileSettings.model_validate({"name": "x", "description": "", "runs": runs, "threads": 1, "timing": quick})
    return resolve(settings, this_host())


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(circumstances, "others_cores", lambda before, after: 0.0)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_measures_a_real_graph(graph: bytes, inputs: dict[str, Any], device: Device, runtime: str, quiet: None) -> None:
    deployment = device.deployment(A, Run(runtime, "fp32"))
    made = measure_graph(graph, deployment, device, "c" * 64, len(graph), inputs)
    assert made.timing is not None
    assert 0 < made.timing.p50_ms <= made.timing.p90_ms
    assert (made.device, made.graph_hash, made.size_bytes, made.host) == ("x", "c" * 64, len(graph), this_host().fingerprint)
    assert made.versions == {runtime: registry.version(runtime)}
    assert made.circumstances["runtime_says"]["precision"] == "fp32"
    assert made.circumstances["runtime_says"]["threads"] == 1
    assert made.key == key_of(deployment, device, "c" * 64)
    assert type(made).from_json(json.loads(json.dumps(made.to_json()))) == made


def scripted(monkeypatch: pytest.MonkeyPatch, *results: Timing) -> None:
    left = list(results)
    monkeypatch.setattr(timing, "measure", lambda run_once, settings: left.pop(0))


def measure(graph: bytes, inputs: dict[str, Any], device: Device) -> Any:
    return measure_graph(graph, device.deployment(A, device.runs[0]), device, "c" * 64, len(graph), inputs)


def test_an_unstable_one_is_measured_again(
    graph: bytes, inputs: dict[str, Any], device: Device, quiet: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, replace(TIMING, stable=False, p50_ms=9.0), TIMING)
    made = measure(graph, inputs, device)
    assert made.believed
    assert made.timing == TIMING
    assert made.circumstances["attempts"] == 2


def test_twice_unstable_is_said(
    graph: bytes, inputs: dict[str, Any], device: Device, quiet: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    noisy = replace(TIMING, stable=False, windows=10)
    scripted(monkeypatch, noisy, noisy)
    made = measure(graph, inputs, device)
    assert not made.believed
    assert made.why == "no three windows in a row agreed within 90% (10 were measured)"


def test_a_busy_neighbour_is_not_believed_though_the_windows_agree(
    graph: bytes, inputs: dict[str, Any], device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, TIMING, TIMING)
    monkeypatch.setattr(circumstances, "others_cores", lambda before, after: 1.9)
    monkeypatch.setattr(circumstances, "processors", lambda: 2)
    made = measure(graph, inputs, device)
    assert not made.believed
    assert made.why == "other processes used 1.9 of 2 processors while 1 thread was measured"
    assert made.circumstances["others_cores"] == 1.9


def test_what_cannot_run_is_recorded(
    graph: bytes, inputs: dict[str, Any], device: Device, quiet: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = []

    class Exhausted:
        def describe(self) -> dict[str, Any]:
            return {"version": "1"}

        def bind(self, inputs: object) -> object:
            raise RunFailed("bad allocation")

        def close(self) -> None:
            closed.append(True)

    monkeypatch.setattr("instatune_deploy.devices.measure.open_session", lambda *_: Exhausted())
    made = measure(graph, inputs, device)
    assert made.timing is None
    assert made.why == "it could not be run: bad allocation"
    assert closed == [True]


def test_wrong_inputs(graph: bytes, inputs: dict[str, Any], device: Device) -> None:
    del inputs["mask"]
    with pytest.raises(BadInput, match="the graph takes the inputs ids, mask; given were ids"):
        measure(graph, inputs, device)
