"""Measure one graph on one device, and say under which circumstances."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

from instatune_deploy.devices import circumstances, timing
from instatune_deploy.devices.deployment import Deployment, Measurement, Timing, measurement_key
from instatune_deploy.devices.profile import Device
from instatune_deploy.devices.runtimes.base import Graph, Inputs, RunFailed
from instatune_deploy.devices.runtimes.registry import open_session, version

ATTEMPTS = 2


def key_of(deployment: Deployment, device: Device, graph_hash: str) -> str:
    """The key that `measure_graph` would give its measurement: look there first."""
    return measurement_key(deployment, graph_hash, device.host.fingerprint, _versions(deployment), _protocol(device))


def measure_graph(
    graph: Graph, deployment: Deployment, device: Device, graph_hash: str, size_bytes: int, inputs: Inputs
) -> Measurement:
    """Run ``graph`` as ``deployment`` says, by the device's protocol; a second time when the first is not to be believed.

    inputs: one batch, pinned while it is timed

    The measurement says itself whether it is believed, and if not, why. ``BadInput`` when the graph cannot be loaded, does
    not take these inputs, or the runtime would not run it as asked.
    """
    started = datetime.now(UTC).isoformat(timespec="milliseconds")
    load_before = circumstances.load_average()
    result: Timing | None = None
    others: float | None = None
    attempts = 0
    with closing(open_session(graph, deployment.runtime, deployment.precision, deployment.threads)) as session:
        said = session.describe()
        why: str | None = None
        try:
            run_once = session.bind(inputs)
            for attempts in range(1, ATTEMPTS + 1):  # noqa: B007
                result, others, why = _attempt(run_once, deployment.threads, device)
                if why is None:
                    break
        except RunFailed as error:
            why = f"it could not be run: {error}"
    facts: dict[str, Any] = {
        "started": started,
        "load_before": load_before,
        "load_after": circumstances.load_average(),
        "others_cores": others,
        "attempts": attempts,
        "runtime_says": said,
    }
    return Measurement(
        deployment=deployment,
        device=device.name,
        graph_hash=graph_hash,
        size_bytes=size_bytes,
        host=device.host.fingerprint,
        versions=_versions(deployment),
        protocol=_protocol(device),
        timing=result,
        circumstances=facts,
        why=why,
    )


def _attempt(run_once: Callable[[], object], threads: int, device: Device) -> tuple[Timing, float, str | None]:
    """Timing, processors that others used meanwhile, and why not to believe it."""
    before = circumstances.cpu_account()
    result = timing.measure(run_once, device.timing)
    others = circumstances.others_cores(before, circumstances.cpu_account())
    why = circumstances.too_busy(others, threads, circumstances.processors())
    if why is None and not result.stable:
        why = f"no three windows in a row agreed within {device.timing.tolerance:.0%} ({result.windows} were measured)"
    return result, round(others, 2), why


def _versions(deployment: Deployment) -> dict[str, str]:
    return {deployment.runtime: version(deployment.runtime)}


def _protocol(device: Device) -> dict[str, Any]:
    return device.timing.model_dump()
