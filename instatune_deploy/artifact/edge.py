"""`python verify.py` inside an artifact: the checks of `checks`, with Python, NumPy and the artifact's runtime, and nothing else.

The graph is measured in a process of its own, by the protocol that the manifest names.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from instatune_deploy.artifact.checks import (
    MANIFEST,
    SCHEMA_VERSION,
    break_seal,
    check_manifest_size,
    checked,
    is_plain,
    schema_of,
)
from instatune_deploy.artifact.graph_files import GRAPH_FILES
from instatune_deploy.artifact.words import refused, said
from instatune_deploy.devices.plan import package_of
from instatune_deploy.devices.runs import Run
from instatune_deploy.devices.runtimes.modules import installed, runtime_module
from instatune_deploy.errors import BadInput, UserError, VerificationFailed, reason

if TYPE_CHECKING:
    from instatune_deploy.devices.probe import Outcome

MEASURE = "--measure"
PERCENTILES = ("p50", "p90", "p99")
LIMITS = ("limit_ms", "size_bytes", "memory_bytes", "macs", "accuracy")
INTERRUPTED = 130


@dataclass(frozen=True)
class Deployed:
    """How the graph is run."""

    run: Run
    batch_size: int

    @property
    def runtime(self) -> str:
        """Name of the runtime."""
        return self.run.runtime


@dataclass(frozen=True)
class EdgeManifest:
    """What is read of a manifest (`checks.Described`); everything else in it is passed over."""

    deployment: Deployed
    input_shapes: dict[str, list[int]]
    files: dict[str, Any]
    budget: Any
    memory_bytes: int | None
    macs: int
    accuracy: Any
    host: dict[str, Any]
    tolerance: float
    latency_ms: dict[str, float]
    timing: Any

    @property
    def runtime(self) -> str:
        """Name of the runtime."""
        return self.deployment.runtime

    @property
    def batch_size(self) -> int:
        """Rows of one inference."""
        return self.deployment.batch_size

    def promised_ms(self, statistic: str) -> float:
        """Latency by a statistic."""
        return self.latency_ms[statistic]

    @classmethod
    def read(cls, folder: Path) -> EdgeManifest:
        """``BadInput`` for a folder that is no artifact; ``VerificationFailed`` for a manifest that was changed, or is newer."""
        path = folder / MANIFEST
        if path.is_symlink() or not path.is_file():
            raise BadInput(f"{folder}: not an artifact (it has no file {MANIFEST})")
        check_manifest_size(path)
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise BadInput(f"{path}: cannot be read: {reason(error)}") from error
        except (ValueError, RecursionError) as error:
            raise VerificationFailed(f"{path}: damaged: it is no JSON") from error
        schema = schema_of(path, value)
        if schema > SCHEMA_VERSION:
            raise VerificationFailed(f"{path}: of a newer schema ({schema}) than this reads ({SCHEMA_VERSION})")
        break_seal(path, value)
        try:
            return cls._of(value)
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise VerificationFailed(f"{path}: damaged: {reason(error)} is missing or odd") from error

    @classmethod
    def _of(cls, value: Mapping[str, Any]) -> EdgeManifest:
        run = Run(_text(value, "runtime"), _text(value, "precision"), _whole(value, "threads", 1), value.get("provider", "cpu"))
        if run.runtime not in GRAPH_FILES or not isinstance(run.provider, str):
            raise ValueError(f"{run.runtime!r} on {run.provider!r}")
        for name, shape in value["input_shapes"].items():
            if not isinstance(shape, list) or not all(type(size) is int and size > 0 for size in shape):
                raise ValueError(f"the shape of {name!r}")
        for name in value["files"]:
            if not is_plain(name):
                raise ValueError(f"{name!r}, which is not the path of a file inside the artifact,")
        return cls(
            deployment=Deployed(run, _whole(value, "batch_size", 1)),
            input_shapes=dict(value["input_shapes"]),
            files={
                name: SimpleNamespace(sha256=_text(entry, "sha256"), bytes=_whole(entry, "bytes", 0))
                for name, entry in value["files"].items()
            },
            budget=None if value["budget"] is None else _budget(value["budget"]),
            memory_bytes=None if value.get("memory_bytes") is None else _whole(value, "memory_bytes", 1),
            macs=_whole(value, "macs", 0),
            accuracy=SimpleNamespace(validation=_number(value["accuracy"], "validation")),
            host=dict(value["host"]),
            tolerance=_number(value["parity"], "tolerance"),
            latency_ms={name: _number(value["latency_ms"], name) for name in PERCENTILES},
            timing=SimpleNamespace(**value["timing"]),
        )


def _budget(value: Mapping[str, Any]) -> Any:
    """`checks.Limits`."""
    also = value.get("also_ms", {})
    if not {_text(value, "statistic"), *also} <= set(PERCENTILES):
        raise ValueError("a percentile of the budget")
    return SimpleNamespace(
        text=_text(value, "text"),
        statistic=value["statistic"],
        also_ms={name: _number(also, name) for name in also},
        **{name: None if value.get(name) is None else _number(value, name) for name in LIMITS},
    )


def _text(value: Mapping[str, Any], name: str) -> str:
    if not isinstance(value[name], str):
        raise ValueError(repr(name))
    return str(value[name])


def _whole(value: Mapping[str, Any], name: str, least: int) -> int:
    if type(value[name]) is not int or not least <= value[name] < 1 << 63:
        raise ValueError(repr(name))
    return int(value[name])


def _number(value: Mapping[str, Any], name: str) -> float:
    if type(value[name]) not in (int, float):
        raise ValueError(repr(name))
    return float(value[name])


@dataclass(frozen=True)
class Anew:
    """An `Outcome` as the checks read it."""

    outcome: Outcome

    @property
    def timing(self) -> Any:
        """None when it could not be run."""
        return self.outcome.timing

    @property
    def why(self) -> str | None:
        """Why it is not to be believed."""
        return self.outcome.why

    @property
    def memory_bytes(self) -> int | None:
        """Peak resident memory of the process."""
        return self.outcome.circumstances.get("peak_memory_bytes")


def main(folder: str | None = None, arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 all is well; 2 it cannot be checked here; 4 it is not what it says; 5 this host is too noisy to say.

    folder: of the artifact; that of the program that runs for None
    """
    folder = folder or str(Path(sys.argv[0]).resolve().parent)
    options = _options(arguments)
    try:
        if options.measure:
            return _measure(Path(folder))
        return _verify(Path(folder), options.json)
    except UserError as error:
        if options.json:
            print(refused(Path(folder), error))
        print(f"Error: {error.message}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return INTERRUPTED


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="verify.py",
        description="Is this artifact what it says? Checks its files, the outputs on its samples, and its budget, measured anew.",
        epilog="Exit code 0: all is well; 2: it cannot be checked here; 4: it is not what it says; 5: this host is too busy.",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
    parser.add_argument(MEASURE, action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _verify(folder: Path, as_json: bool) -> int:
    from instatune_deploy.devices.host import this_host

    manifest = EdgeManifest.read(folder)
    if not installed(manifest.runtime):
        raise BadInput(f"{manifest.runtime} is not installed: pip install {package_of(manifest.deployment.run)}")
    threads, cores = manifest.deployment.run.threads, this_host().cores
    if manifest.deployment.run.provider == "cpu" and threads > cores:
        raise BadInput(f"it runs {threads} threads, and this host has {cores} cores")
    try:
        runtime_module(manifest.runtime)
    except (ImportError, OSError) as error:
        package = package_of(manifest.deployment.run)
        raise BadInput(f"{manifest.runtime} cannot be imported ({reason(error)}): pip install {package}") from error
    report = checked(folder, manifest, lambda: _anew(folder), this_host().fingerprint)
    for text in said(report, folder, as_json):
        print(text)
    failure = report.failure()
    if failure is None:
        return 0
    if not as_json:
        print(f"Error: {failure.message}", file=sys.stderr)
    return failure.exit_code


def _anew(folder: Path) -> Anew:
    """Measured by this program once more, in a process where nothing was loaded yet."""
    from instatune_deploy.devices.probe import Outcome

    command = [sys.executable, sys.argv[0], MEASURE]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
    try:
        return Anew(Outcome.from_json(json.loads(done.stdout.splitlines()[-1])))
    except (ValueError, IndexError, KeyError, TypeError) as error:
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1].removeprefix("Error: ")
        if done.returncode == BadInput.exit_code:
            raise BadInput(said) from error
        raise VerificationFailed(f"{folder}: the graph could not be measured: {said}") from error


def _measure(folder: Path) -> int:
    """Print the outcome of measuring the artifact's graph, as the last line."""
    from instatune_deploy.artifact.samples import Samples
    from instatune_deploy.devices.probe import Probe
    from instatune_deploy.devices.reference import write_reference
    from instatune_deploy.devices.runtimes.base import Refused

    # libraries print what they like: the answer has the standard output for itself
    private = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    manifest = EdgeManifest.read(folder)
    deployment = manifest.deployment
    inputs = Samples.read(folder).batch(0, deployment.batch_size)
    with tempfile.TemporaryDirectory() as scratch:
        probe = Probe(write_reference(Path(scratch)))
        try:
            outcome = probe.measure(GRAPH_FILES[deployment.runtime].path(folder), inputs, deployment.run, manifest.timing, None)
        except Refused as error:
            raise BadInput(str(error)) from error
        finally:
            probe.close()
    private.write(json.dumps(outcome.to_json()) + "\n")
    private.flush()
    return 0
