"""Measure a finished graph again in a process of its own: no PyTorch in it, nothing left over from the search."""

from __future__ import annotations

from pathlib import Path

from instatune_deploy.artifact.graph_files import GRAPH_FILES
from instatune_deploy.artifact.samples import Samples
from instatune_deploy.config import ProfileSettings, RunSettings, TimingSettings
from instatune_deploy.devices.deployment import Deployment, Measurement
from instatune_deploy.devices.host import this_host
from instatune_deploy.devices.process import MeasuringProcess
from instatune_deploy.devices.profile import resolve
from instatune_deploy.devices.runtimes.registry import check_run
from instatune_deploy.errors import BadInput, VerificationFailed, reason


def remeasure(folder: Path, deployment: Deployment, device: str, timing: TimingSettings) -> Measurement:
    """Latency of the graph in ``folder`` on its own first sample rows, as ``deployment`` says, by the protocol ``timing``.

    device: name of the hardware profile, for the record

    The figures are as the clock gave them, on no nominal scale: what a user would see now. The reference model only watches
    that the host keeps its speed meanwhile. Measured a second time when the first is not to be believed; the measurement says
    whether it is. ``BadInput`` when this host cannot run it so; ``VerificationFailed`` when the process dies of it.
    """
    graph = GRAPH_FILES[deployment.runtime]
    check_run(deployment.runtime, deployment.precision, deployment.provider)
    # the artifact's device is a profile with one run; so a host that lacks something is told what. Not validated: a manifest
    # may say what nobody would write into a profile, such as 4096 threads
    run = RunSettings.model_construct(**{name: getattr(deployment, name) for name in ("runtime", "precision", "provider")})
    profile = ProfileSettings.model_construct(
        name=device,
        description="the device of an artifact",
        runs=[run],
        threads=deployment.threads,
        batch_size=deployment.batch_size,
        sequence_length=deployment.sequence_length,
        timing=timing,
    )
    host = resolve(profile, this_host()).host
    try:
        inputs = Samples.read(folder).batch(0, deployment.batch_size)
        graph_hash, size_bytes = graph.hash(folder), graph.size_bytes(folder)
    except OSError as error:
        raise BadInput(f"{error.filename}: cannot be read: {reason(error)}") from error
    with MeasuringProcess() as process:
        outcome = process.measure(graph.path(folder), inputs, deployment.run, timing, None)
    if outcome.timing is None and not outcome.circumstances:
        raise VerificationFailed(f"{folder}: {outcome.why}")
    return Measurement(
        deployment=deployment,
        device=device,
        graph_hash=graph_hash,
        size_bytes=size_bytes,
        host=host.fingerprint,
        versions={deployment.runtime: outcome.version},
        protocol=timing.model_dump(),
        timing=outcome.timing,
        circumstances=outcome.circumstances,
        why=outcome.why,
    )
