"""Measure one graph on one device, and say under which circumstances."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from instatune_deploy.devices.deployment import Deployment, Measurement, measurement_key
from instatune_deploy.devices.probe import Outcome, reference_run
from instatune_deploy.devices.process import MeasuringProcess
from instatune_deploy.devices.profile import Device
from instatune_deploy.devices.reference import reference_key
from instatune_deploy.devices.runs import Run
from instatune_deploy.devices.runtimes.base import Graph, Inputs
from instatune_deploy.devices.runtimes.modules import version_for
from instatune_deploy.devices.runtimes.registry import refusals_are_bad_input
from instatune_deploy.devices.store import MeasurementStore
from instatune_deploy.errors import BadInput


@dataclass
class Laboratory:
    """Where graphs are measured: processes of their own, and the nominal speed of this host as the store knows it.

    again:   calibrate the reference model anew, once for every way of running
    scratch: folder for graphs that are measured; the system's temporary one for None
    """

    store: MeasurementStore
    again: bool = False
    scratch: Path | None = None
    _processes: dict[tuple[str, int, str], MeasuringProcess] = field(default_factory=dict)
    _nominal: dict[Run, float] = field(default_factory=dict)
    measured_again: set[str] = field(default_factory=set)
    """Keys of what was believed since this was opened: with ``again`` nothing is measured twice."""

    def process(self, run: Run) -> MeasuringProcess:
        """The process for ``run``: one for each runtime, number of threads and provider, so that nothing is in its way."""
        return self._processes.setdefault((run.runtime, run.threads, run.provider), MeasuringProcess(self.scratch))

    def nominal_ms(self, run: Run, device: Device) -> tuple[float | None, str | None]:
        """What the reference model takes beside ``run`` when this host is quiet, or None and why that cannot be said now.

        Measured once and kept in the store, so that what is measured today can be compared with what was measured last week.
        """
        beside = reference_run(run)
        if beside not in self._nominal:
            host, made = device.host.fingerprint, _version(run)
            key = reference_key(run, made, host)
            known = None if self.again else self.store.find_reference(key)
            if known is None:
                found, why = self.process(run).nominal_ms(run, device.timing)
                if found is None:
                    return None, why
                known = self.store.add_reference(
                    key, device=device.name, run=run, host=host, version=made, nominal_ms=found, again=self.again
                )
            self._nominal[beside] = known
        return self._nominal[beside], None

    def on_nominal(self, measurement: Measurement, device: Device) -> Measurement:
        """A measurement of an earlier day on the nominal speed that counts today."""
        if measurement.timing is None or measurement.timing.nominal_ms is None:
            return measurement
        nominal_ms, _ = self.nominal_ms(measurement.deployment.run, device)
        return measurement if nominal_ms is None else replace(measurement, timing=measurement.timing.on_nominal(nominal_ms))

    def close(self) -> None:
        """End the processes. The store is its owner's to close."""
        for process in self._processes.values():
            process.close()


def key_of(deployment: Deployment, device: Device, graph_hash: str) -> str:
    """The key that `measure_graph` would give its measurement: look there first."""
    return measurement_key(deployment, graph_hash, device.host.fingerprint, _versions(deployment), _protocol(device))


def measure_graph(
    graph: Graph,
    deployment: Deployment,
    device: Device,
    graph_hash: str,
    size_bytes: int,
    inputs: Inputs,
    laboratory: Laboratory,
) -> Measurement:
    """Run ``graph`` as ``deployment`` says, by the device's protocol; a second time when the first is not to be believed.

    inputs: one batch, pinned while it is timed

    The measurement says itself whether it is believed, and if not, why; also when the graph cannot be loaded or the runtime
    would not run it as asked.
    """
    try:
        nominal_ms, why = laboratory.nominal_ms(deployment.run, device)
        if nominal_ms is None:
            outcome = Outcome(None, f"the host's own speed cannot be said: {why}", _version(deployment.run), {})
        else:
            outcome = laboratory.process(deployment.run).measure(graph, inputs, deployment.run, device.timing, nominal_ms)
    except BadInput as error:  # one way of running that a runtime refuses must not cost all the others
        outcome = Outcome(None, error.message, _version(deployment.run), {})
    return Measurement(
        deployment=deployment,
        device=device.name,
        graph_hash=graph_hash,
        size_bytes=size_bytes,
        host=device.host.fingerprint,
        versions={deployment.runtime: outcome.version},
        protocol=_protocol(device),
        timing=outcome.timing,
        circumstances=outcome.circumstances,
        why=outcome.why,
    )


def _version(run: Run) -> str:
    with refusals_are_bad_input():
        return version_for(run)


def _versions(deployment: Deployment) -> dict[str, str]:
    return {deployment.runtime: _version(deployment.run)}


def _protocol(device: Device) -> dict[str, Any]:
    return device.timing.model_dump()
