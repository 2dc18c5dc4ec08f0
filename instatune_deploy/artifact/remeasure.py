"""Measure a finished graph again in a process of its own: no PyTorch in it, nothing left over from the search.

Run as ``python -m instatune_deploy.artifact.remeasure`` it reads a request from standard input and answers with one line of
JSON on standard output.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from instatune_deploy.artifact.graph_files import GRAPH_FILES
from instatune_deploy.artifact.samples import Samples
from instatune_deploy.config import ProfileSettings, RunSettings, TimingSettings
from instatune_deploy.devices.deployment import Deployment, Measurement
from instatune_deploy.errors import BadInput, UserError, VerificationFailed
from instatune_deploy.files import reason

MODULE = "instatune_deploy.artifact.remeasure"


class Request(BaseModel):
    """What the new process is asked to measure: the graph and the samples in ``folder``."""

    folder: Path
    deployment: Deployment
    device: str
    timing: TimingSettings


def remeasure(folder: Path, deployment: Deployment, device: str, timing: TimingSettings) -> Measurement:
    """Latency of the graph in ``folder`` on its own first sample rows, as ``deployment`` says, by the protocol ``timing``.

    device: name of the hardware profile, for the record

    Measured a second time when the first is not to be believed; the measurement says whether it is. ``BadInput`` when this
    host cannot run it so; ``VerificationFailed`` when the process dies.
    """
    request = Request(folder=folder.absolute(), deployment=deployment, device=device, timing=timing)
    # -P: a file in the current folder that is called like a library must not be imported
    command = [sys.executable, "-P", "-m", MODULE]
    done = subprocess.run(command, input=request.model_dump_json(), capture_output=True, encoding="utf-8", errors="replace")
    answer = _answer(done.stdout)
    if done.returncode == 0 and "measurement" in answer:
        return Measurement.from_json(answer["measurement"], "re-measurement")
    if "error" in answer:
        kind = BadInput if answer["exit_code"] == BadInput.exit_code else VerificationFailed
        raise kind(answer["error"])
    last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
    how = f"was killed by signal {-done.returncode}" if done.returncode < 0 else f"ended with code {done.returncode}"
    raise VerificationFailed(f"{folder}: the process that measures it again {how}: {last}")


def _answer(stdout: str) -> dict[str, Any]:
    """The line that `main` printed; libraries may have printed others."""
    for line in reversed(stdout.splitlines()):
        if line.startswith('{"'):
            value: dict[str, Any] = json.loads(line)
            return value
    return {}


def measure_here(request: Request) -> Measurement:
    """What the new process does."""
    from instatune_deploy.devices.host import this_host
    from instatune_deploy.devices.measure import measure_graph
    from instatune_deploy.devices.profile import resolve

    deployment = request.deployment
    graph = GRAPH_FILES[deployment.runtime]
    # the artifact's device is a profile with one run; so a host that lacks something is told what
    profile = ProfileSettings(
        name=request.device,
        description="the device of an artifact",
        runs=[RunSettings(runtime=deployment.runtime, precision=deployment.precision)],
        threads=deployment.threads,
        batch_size=deployment.batch_size,
        sequence_length=deployment.sequence_length,
        timing=request.timing,
    )
    return measure_graph(
        graph.path(request.folder),
        deployment,
        resolve(profile, this_host()),
        graph.hash(request.folder),
        graph.size_bytes(request.folder),
        Samples.read(request.folder).batch(0, deployment.batch_size),
    )


def main() -> None:
    """Read the request, answer with the measurement or with what is wrong."""
    try:
        answer: dict[str, Any] = {"measurement": measure_here(Request.model_validate_json(sys.stdin.read())).to_json()}
    except UserError as error:
        answer = {"error": error.message, "exit_code": error.exit_code}
    except OSError as error:
        answer = {"error": f"{error.filename}: cannot be read: {reason(error)}", "exit_code": BadInput.exit_code}
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
