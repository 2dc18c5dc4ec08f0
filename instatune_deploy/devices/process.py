"""A process of its own that measures: nothing of PyTorch in it, and when it dies of a graph, only that graph is lost."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from instatune_deploy.config import TimingSettings
from instatune_deploy.devices.probe import Outcome
from instatune_deploy.devices.reference import write_reference
from instatune_deploy.devices.runs import Run
from instatune_deploy.devices.runtimes.base import Graph, Inputs
from instatune_deploy.devices.runtimes.modules import version_for
from instatune_deploy.devices.runtimes.registry import check_run, refusals_are_bad_input
from instatune_deploy.errors import BadInput, clear_os_errors

MODULE = "instatune_deploy.devices.serve"
ERRORS = "errors.txt"
PREFIX = ".measuring."
KILLED = -9  # not every system has a SIGKILL


class MeasuringProcess:
    """Measures graphs, one at a time. The process starts with the first, and again after one that it died of."""

    def __init__(self, folder: Path | None = None) -> None:
        """folder: where the scratch files go; the system's temporary folder for None."""
        self._parent = folder
        self._process: subprocess.Popen[str] | None = None
        self._folder: Path | None = None

    def __enter__(self) -> MeasuringProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def nominal_ms(self, run: Run, rules: TimingSettings) -> tuple[float | None, str | None]:
        """See `Probe.nominal_ms`. ``BadInput`` when the host cannot run it so."""
        answer = self._ask({"run": run, "rules": rules.model_dump()})
        return answer.get("nominal_ms"), answer.get("why") or answer.get("failed")

    def measure(self, graph: Graph, inputs: Inputs, run: Run, rules: TimingSettings, nominal_ms: float | None) -> Outcome:
        """See `Probe.measure`. ``BadInput`` when the graph is refused; a process that died of it is in the outcome."""
        check_run(run.runtime, run.precision, run.provider)
        folder = self.scratch
        path = graph if isinstance(graph, Path) else folder / "graph.onnx"
        with clear_os_errors(f"cannot write {folder}"):
            if not isinstance(graph, Path):
                path.write_bytes(graph)
            np.savez(folder / "inputs.npz", **inputs)  # type: ignore[arg-type]
        request = {"graph": str(path.absolute()), "inputs": str(folder / "inputs.npz"), "run": run, "rules": rules.model_dump()}
        answer = self._ask({**request, "nominal_ms": nominal_ms})
        if "outcome" in answer:
            return Outcome.from_json(answer["outcome"])
        with refusals_are_bad_input():
            return Outcome(None, answer["failed"], version_for(run), {})

    def close(self) -> None:
        """End the process and remove its scratch files."""
        self._end()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    @property
    def scratch(self) -> Path:
        """A folder for graphs to measure; gone when this is closed."""
        if self._folder is None:
            with clear_os_errors(f"cannot write {self._parent or tempfile.gettempdir()}"):
                _remove_abandoned(self._parent)
                prefix = f"{PREFIX}{socket.gethostname()}.{os.getpid()}."
                self._folder = Path(tempfile.mkdtemp(prefix=prefix, dir=self._parent))
        return self._folder

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except OSError:  # it is gone
            line = ""
        except BaseException:
            # an answer that nobody waited for must not be taken for the next one's
            self._end()
            raise
        if not line.endswith("\n"):  # nothing, or half an answer
            return {"failed": self._died()}
        answer: dict[str, Any] = json.loads(line)
        if "refused" in answer:
            raise BadInput(answer["refused"])
        return answer

    def _started(self) -> subprocess.Popen[str]:
        if self._process is not None and self._process.poll() is not None:
            # it was ended while nothing was measured: no graph is to blame
            self._end()
        if self._process is None:
            folder = self.scratch
            with clear_os_errors(f"cannot write {folder}"):
                reference = write_reference(folder)
            # -P: a file in the current folder that is called like a library must not be imported
            command = [sys.executable, "-P", "-m", MODULE, str(reference)]
            with (folder / ERRORS).open("wb") as errors:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, encoding="utf-8"
                )
        return self._process

    def _died(self) -> str:
        """How the process ended, in words."""
        assert self._process is not None
        code = self._process.wait()
        said = (self.scratch / ERRORS).read_text(encoding="utf-8", errors="replace").strip().splitlines()
        self._end()
        if code == KILLED:
            return "the measuring process was killed, as the system does when memory runs out"
        how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
        return f"the measuring process {how}: {said[-1] if said else 'it said nothing'}"

    def _end(self) -> None:
        if self._process is None:
            return
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(OSError):  # what it could not be told any more
            self._process.stdin.close()
        self._process.stdout.close()
        self._process = None


def _remove_abandoned(parent: Path | None) -> None:
    """Scratch folders that processes of this host left behind when they were killed."""
    for folder in (parent or Path(tempfile.gettempdir())).glob(f"{PREFIX}{socket.gethostname()}.*"):
        number = folder.name.rsplit(".", 2)[-2]
        if number.isdigit() and not psutil.pid_exists(int(number)):
            shutil.rmtree(folder, ignore_errors=True)
