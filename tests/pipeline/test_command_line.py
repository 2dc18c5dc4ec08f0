"""The whole flow through the command line: what it prints where, and its exit codes."""

from __future__ import annotations

import errno
import os
import re
import shutil
from typing import Any

import pytest
from click.testing import CliRunner, Result

from instatune_deploy.artifact import verify as verify_module
from instatune_deploy.artifact.manifest import read_manifest
from instatune_deploy.cli import main

from .conftest import BUDGET
from .fakes import Place, write_profile


def run(place: Place, *arguments: str, names: tuple[str, ...] = ("tiny-cpu",)) -> Result:
    devices = [word for name in names for word in ("--device", str(write_profile(place.folder, name)))]
    where = ["--pipeline", str(place.pipeline), "--work", str(place.work), "--output", str(place.output)]
    return CliRunner().invoke(main, [*arguments, *devices, *where])


def error_line(result: Result, code: int) -> str:
    assert result.exit_code == code, result.stderr
    assert "Traceback" not in result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.startswith("Error: ")
    return last


def errors(result: Result) -> int:
    return sum("Error: " in line for line in result.stderr.splitlines())


@pytest.mark.parametrize("command", [[], ["export"]])
def test_from_a_finished_search_to_an_artifact(place: Place, command: list[str]) -> None:
    shutil.rmtree(place.artifact)
    result = run(place, *command, "--budget", BUDGET)
    assert result.exit_code == 0, result.stderr
    assert result.stderr.splitlines()[0].startswith("» model ")
    assert "Error" not in result.stderr
    assert result.stdout.splitlines()[-3:] == [
        result.stdout.splitlines()[-3],
        f"artifact: {place.artifact}",
        f"check it anywhere: python {place.artifact / 'verify.py'}",
    ]
    assert result.stdout.splitlines()[-3].startswith("budget 4ms: kept, ")
    assert (place.artifact / "manifest.json").is_file()


def test_stages(place: Place) -> None:
    shutil.rmtree(place.output)
    assert run(place, "profile", "--budget", BUDGET).stdout == ""
    result = run(place, "search", "--budget", BUDGET)
    assert (result.exit_code, place.fake.measured) == (0, [])
    assert "full model" in result.stdout
    assert list(place.output.iterdir()) == []
    finetune = CliRunner().invoke(main, ["finetune", "--pipeline", str(place.pipeline), "--work", str(place.work)])
    assert finetune.exit_code == 0
    assert "fine-tuned before" in finetune.stderr


@pytest.mark.parametrize("stage", [[], ["search"]])
def test_nothing_fits(place: Place, stage: list[str]) -> None:
    result = run(place, *stage, "--budget", "1ms")
    assert result.exit_code == 3
    assert ("full model" in result.stdout) is bool(stage)  # the front is shown all the same
    error, *nearest = result.stderr.splitlines()[-4:]
    assert error.startswith("Error: nothing keeps 1ms; a budget of ")
    assert all(line.startswith("  ") for line in nearest)
    assert errors(result) == 1


def test_several_budgets(place: Place) -> None:
    result = run(place, "--budget", "6ms", "--budget", "macs:1G,size:1GB")
    assert result.exit_code == 0
    assert re.search(r"budget 6ms,size:1000MB,macs:1G: kept, \S+ ms \(p90\) is \d+% of it, \S+ MB are 0% of it, ", result.stdout)
    both = run(place, "--budget", "p90:6ms,p99:9ms")
    assert both.exit_code == 0
    assert re.search(r"budget p90:6ms,p99:9ms: kept, \S+ ms \(p90\) is \d+% of it, \S+ ms \(p99\) is \d+% of it", both.stdout)
    # the profile's own percentile is p90: of one that is limited twice the stricter limit stands in the artifact
    assert run(place, "--budget", "6ms,p90:20ms").exit_code == 0
    kept = read_manifest(place.artifact).budget
    assert kept is not None
    assert (kept.limit_ms, kept.also_ms) == (6.0, {})
    assert "both limit the latency" in error_line(run(place, "--budget", "6ms", "--budget", "5ms"), 2)


def test_too_noisy(place: Place) -> None:
    (place.work / "measurements.sqlite").unlink()
    place.fake.noisy = lambda deployment, device: True
    result = run(place, "--budget", BUDGET)
    assert "16 of 16 measurements could not be believed; stop what else runs on this host" in error_line(result, 5)
    assert errors(result) == 1


def test_the_disk_is_full(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    shutil.rmtree(place.artifact)
    monkeypatch.setattr("instatune_deploy.artifact.write.write_graph", full)
    result = run(place, "--budget", BUDGET)
    assert error_line(result, 2) == f"Error: cannot write {place.artifact}: the disk is full; free some space and run again"
    assert list(place.output.iterdir()) == []


def test_another_folder_in_the_artifacts_place(place: Place) -> None:
    (place.artifact / "manifest.json").unlink()
    assert "it exists and is no artifact" in error_line(run(place, "--budget", BUDGET), 2)


def test_several_devices(place: Place) -> None:
    """The lines of the failed one stand where it failed; the last line says how many."""
    (place.work / "measurements.sqlite").unlink()
    shutil.rmtree(place.output)
    place.fake.noisy = lambda deployment, device: device == "noisy-cpu"
    result = run(place, "--budget", BUDGET, names=("noisy-cpu", "tiny-cpu"))
    assert error_line(result, 5) == "Error: 1 of 2 devices have no result; see above"
    assert "Error: device noisy-cpu: " in result.stderr
    assert (place.artifact / "manifest.json").is_file()


@pytest.mark.parametrize(("slower", "noisy", "code"), [(1.0, False, 0), (3.0, False, 4), (1.0, True, 5)])
def test_verify(place: Place, monkeypatch: pytest.MonkeyPatch, slower: float, noisy: bool, code: int) -> None:
    place.fake.slower = lambda deployment: slower
    place.fake.noisy = lambda deployment, device: noisy
    monkeypatch.setattr(verify_module.verify, "__defaults__", (place.fake.verify_again, None))
    result = CliRunner().invoke(main, ["verify", str(place.artifact)])
    assert result.exit_code == code, result.stderr
    word = {0: "ok", 4: "FAILED", 5: "unclear"}[code]
    assert next(line for line in result.stdout.splitlines() if "budget: " in line).split()[0] == word
    if code:
        assert error_line(result, code).startswith(f"Error: {place.artifact}: budget: ")


def test_ctrl_c(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    (place.work / "measurements.sqlite").unlink()
    monkeypatch.setattr("instatune_deploy.pipeline.bench.measure_graph", interrupted)
    result = run(place, "profile")
    assert result.exit_code == 130
    assert result.stderr.endswith("\nInterrupted. Checkpoints and measurements are kept: the same command goes on from there.\n")
