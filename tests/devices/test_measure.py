from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from instatune_deploy.config import ProfileSettings, TimingSettings
from instatune_deploy.devices.deployment import Measurement
from instatune_deploy.devices.host import this_host
from instatune_deploy.devices.latency import Limits
from instatune_deploy.devices.measure import Laboratory, key_of, measure_graph
from instatune_deploy.devices.probe import Outcome
from instatune_deploy.devices.process import MeasuringProcess
from instatune_deploy.devices.profile import Device, resolve
from instatune_deploy.devices.reference import reference_key
from instatune_deploy.devices.runs import Run
from instatune_deploy.devices.runtimes.registry import version
from instatune_deploy.devices.store import MeasurementStore
from instatune_deploy.supernet.architecture import Architecture

from .conftest import QUICK, TIMING

A = Architecture((0,), (4,), (16,))
RUN = Run("onnxruntime", "fp32", 1)
VERSION = version("onnxruntime")


@pytest.fixture
def device() -> Device:
    runs = [{"runtime": "onnxruntime"}, {"runtime": "onnxruntime", "precision": "int8"}, {"runtime": "openvino"}]
    settings = ProfileSettings.model_validate({"name": "x", "description": "", "runs": runs, "threads": 1, "timing": QUICK})
    return resolve(settings, this_host())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[MeasurementStore]:
    with MeasurementStore(tmp_path / "measurements.db") as opened:
        yield opened


@dataclass
class FakeProcess:
    """Stands in for the measuring process: remembers what it was asked."""

    nominal: list[tuple[float | None, str | None]] = field(default_factory=lambda: [(2.5, None)])
    outcome: Outcome = field(default_factory=lambda: Outcome(TIMING, None, VERSION, {"load_before": 0.5}))
    calibrated: list[tuple[Run, TimingSettings]] = field(default_factory=list)
    measured: list[tuple[Any, ...]] = field(default_factory=list)

    def nominal_ms(self, run: Run, rules: TimingSettings) -> tuple[float | None, str | None]:
        self.calibrated.append((run, rules))
        return self.nominal.pop(0)

    def measure(self, *asked: Any) -> Outcome:
        self.measured.append(asked)
        return self.outcome


def laboratory(store: MeasurementStore, process: FakeProcess, again: bool = False) -> Laboratory:
    class FakeLaboratory(Laboratory):
        def process(self, run: Run) -> MeasuringProcess:
            return process  # type: ignore[return-value]

    return FakeLaboratory(store, again)


def replace_timing(**changes: Any) -> Outcome:
    return Outcome(replace(TIMING, **changes), None, VERSION, {})


def measure(device: Device, laboratory: Laboratory, run: Run = RUN, nominal_ms: float | None = None) -> Measurement:
    if nominal_ms is not None:
        laboratory._nominal[run] = nominal_ms
    return measure_graph(b"graph", device.deployment(A, run), device, "c" * 64, 5, {}, laboratory)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_measures_a_real_graph(
    graph: bytes, inputs: dict[str, Any], device: Device, runtime: str, store: MeasurementStore
) -> None:
    deployment = device.deployment(A, RUN._replace(runtime=runtime))
    key = reference_key(deployment.run, version(runtime), device.host.fingerprint)
    store.add_reference(
        key, device="x", run=deployment.run, host=device.host.fingerprint, version=version(runtime), nominal_ms=7.5
    )
    with closing(Laboratory(store)) as laboratory:
        made = measure_graph(graph, deployment, device, "c" * 64, len(graph), inputs, laboratory)
    assert made.timing is not None
    assert 0 < made.timing.p50_ms <= made.timing.p90_ms
    assert made.timing.nominal_ms == 7.5
    assert (made.device, made.graph_hash, made.size_bytes, made.host) == ("x", "c" * 64, len(graph), this_host().fingerprint)
    assert made.versions == {runtime: version(runtime)}
    assert made.protocol == QUICK.model_dump()
    assert made.circumstances["runtime_says"]["precision"] == "fp32"
    assert made.circumstances["runtime_says"]["threads"] == 1
    assert made.key == key_of(deployment, device, "c" * 64)
    assert Measurement.from_json(json.loads(json.dumps(made.to_json()))) == made


def test_what_a_runtime_refuses_is_recorded(
    graph: bytes, inputs: dict[str, Any], device: Device, store: MeasurementStore
) -> None:
    """One way of running that is refused must not cost all the others."""
    del inputs["mask"]
    with closing(Laboratory(store)) as made:
        made._nominal[RUN] = 1.0
        found = measure_graph(graph, device.deployment(A, RUN), device, "c" * 64, len(graph), inputs, made)
    assert not found.believed
    assert found.timing is None
    assert found.why is not None
    assert "the graph takes the inputs ids, mask; given were ids" in found.why
    assert found.versions == {RUN.runtime: version(RUN.runtime)}


def test_what_the_process_says_is_recorded(device: Device, store: MeasurementStore) -> None:
    process = FakeProcess()
    made = measure(device, laboratory(store, process))
    assert process.measured == [(b"graph", {}, RUN, QUICK, 2.5)]
    assert made.believed
    assert (made.timing, made.circumstances, made.versions) == (TIMING, {"load_before": 0.5}, {"onnxruntime": VERSION})
    for outcome in (
        Outcome(replace(TIMING, stable=False), "a neighbour", VERSION, {}),
        Outcome(None, "the measuring process was killed", VERSION, {}),
    ):
        made = measure(device, laboratory(store, FakeProcess([], outcome)))
        assert (made.timing, made.why) == (outcome.timing, outcome.why)
        assert not made.believed


def test_nominal_is_measured_once_and_kept(device: Device, store: MeasurementStore) -> None:
    process = FakeProcess([(2.5, None)])
    made = laboratory(store, process)
    for _ in range(3):
        assert made.nominal_ms(RUN, device) == (2.5, None)
    assert process.calibrated == [(RUN, QUICK)]
    # tomorrow, in another process
    assert laboratory(store, FakeProcess([])).nominal_ms(RUN, device) == (2.5, None)


def test_each_number_of_threads_has_its_own_nominal(device: Device, store: MeasurementStore) -> None:
    process = FakeProcess([(2.5, None), (1.5, None)])
    made = laboratory(store, process)
    assert made.nominal_ms(RUN, device) == (2.5, None)
    assert made.nominal_ms(RUN._replace(threads=2), device) == (1.5, None)


def test_runs_whose_reference_is_alike_share_its_nominal(device: Device, store: MeasurementStore) -> None:
    """Beside int8 the reference model is run in fp32; OpenVINO has one of its own."""
    process = FakeProcess([(2.5, None), (3.0, None)])
    made = laboratory(store, process)
    int8 = RUN._replace(precision="int8")
    assert made.nominal_ms(int8, device) == made.nominal_ms(RUN, device) == (2.5, None)
    assert made.nominal_ms(RUN._replace(runtime="openvino"), device) == (3.0, None)
    assert [run.runtime for run, _ in process.calibrated] == ["onnxruntime", "openvino"]
    assert laboratory(store, FakeProcess([])).nominal_ms(RUN, device) == (2.5, None)


def test_one_process_for_each_runtime_threads_and_provider(store: MeasurementStore) -> None:
    with closing(Laboratory(store)) as made:
        one = made.process(RUN)
        assert made.process(RUN._replace(precision="int8")) is one
        others = [
            made.process(RUN._replace(**changes)) for changes in ({"threads": 2}, {"runtime": "openvino"}, {"provider": "cuda"})
        ]
        assert len({id(process) for process in (one, *others)}) == 4
        folders = [process.scratch for process in (one, *others)]
        assert all(folder.is_dir() for folder in folders)
    assert not any(folder.exists() for folder in folders)


def test_an_earlier_measurement_on_the_nominal_of_today(device: Device, store: MeasurementStore) -> None:
    """It was measured where the reference model took 5 ms; today it takes 2.5: half of everything."""
    made = laboratory(store, FakeProcess([(2.5, None)]))
    measured = measure(device, laboratory(store, FakeProcess([], replace_timing(nominal_ms=5.0))), nominal_ms=5.0)
    scaled = made.on_nominal(measured, device)
    assert scaled.timing is not None
    assert (scaled.timing.p50_ms, scaled.timing.p90_ms, scaled.timing.max_ms, scaled.timing.nominal_ms) == (2.5, 3.0, 4.25, 2.5)
    assert scaled.timing.limits["p90"] == Limits(2.9, 3.15)
    assert scaled.key == measured.key
    # without a nominal there is nothing to scale by, and a busy host cannot say one
    plain = measure(device, laboratory(store, FakeProcess([])))
    assert made.on_nominal(plain, device) is plain
    busy = laboratory(store, FakeProcess([(None, "busy")]), again=True)
    assert busy.on_nominal(measured, device) is measured


def test_calibrated_anew_when_asked_and_only_once(device: Device, store: MeasurementStore) -> None:
    laboratory(store, FakeProcess([(2.5, None)])).nominal_ms(RUN, device)
    process = FakeProcess([(3.5, None)])
    made = laboratory(store, process, again=True)
    assert [made.nominal_ms(RUN, device) for _ in range(2)] == [(3.5, None)] * 2
    assert len(process.calibrated) == 1
    assert laboratory(store, FakeProcess([])).nominal_ms(RUN, device) == (3.5, None)


def test_the_first_of_two_calibrations_counts(device: Device, store: MeasurementStore) -> None:
    """Two processes begin together: what one of them keeps meanwhile is the other's nominal too."""

    class Slow(FakeProcess):
        def nominal_ms(self, run: Run, rules: TimingSettings) -> tuple[float | None, str | None]:
            laboratory(store, FakeProcess([(2.5, None)])).nominal_ms(run, device)
            return 2.7, None

    assert laboratory(store, Slow()).nominal_ms(RUN, device) == (2.5, None)


def test_a_busy_host_is_said_and_asked_again(device: Device, store: MeasurementStore) -> None:
    process = FakeProcess([(None, "other processes used 1.9 of 2 processors"), (2.5, None)])
    made = laboratory(store, process)
    first = measure(device, made)
    assert not first.believed
    assert first.why == "the host's own speed cannot be said: other processes used 1.9 of 2 processors"
    assert (first.timing, first.versions, process.measured) == (None, {"onnxruntime": VERSION}, [])
    assert measure(device, made).believed


def test_key_is_of_deployment_graph_host_version_and_protocol(device: Device) -> None:
    deployment = device.deployment(A, RUN)
    key = key_of(deployment, device, "c" * 64)
    assert key_of(deployment, replace(device, name="y"), "c" * 64) == key
    others = [
        key_of(device.deployment(A, RUN._replace(provider="cuda")), device, "c" * 64),
        key_of(deployment, device, "d" * 64),
        key_of(deployment, replace(device, host=replace(device.host, cores=99)), "c" * 64),
        key_of(deployment, replace(device, timing=QUICK.model_copy(update={"reference_ms": 2.0})), "c" * 64),
    ]
    assert len({key, *others}) == 5
