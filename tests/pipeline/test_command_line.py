"""The whole flow through the command line: what it prints where, and its exit codes."""

from __future__ import annotations

import errno
import os
import shutil
from typing import Any

import pytest
from click.testing import CliRunner, Result

from instatune_deploy.artifact import verify as verify_module
from instatune_deploy.cli import main

from .conftest import BUDGET
from .fakes import Workplace, write_profile


def run(place: Workplace, *arguments: str, names: tuple[str, ...] = ("tiny-cpu",)) -> Result:
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
def test_from_a_finished_search_to_an_artifact(workplace: Workplace, command: list[str]) -> None:
    shutil.rmtree(workplace.artifact)
    result = run(workplace, *command, "--budget", BUDGET)
    assert result.exit_code == 0, result.stderr
    assert result.stderr.splitlines()[0].startswith("» model ")
    assert "Error" not in result.stderr
    assert result.stdout.splitlines()[-3:] == [
        result.stdout.splitlines()[-3],
        f"artifact: {workplace.artifact}",
        f"check it anywhere: instatune-deploy verify {workplace.artifact}",
    ]
    assert result.stdout.splitlines()[-3].startswith("budget 4ms: kept, ")
    assert (workplace.artifact / "manifest.json").is_file()


def test_stages(workplace: Workplace) -> None:
    shutil.rmtree(workplace.output)
    assert run(workplace, "profile", "--budget", BUDGET).stdout == ""
    result = run(workplace, "search", "--budget", BUDGET)
    assert (result.exit_code, workplace.fake.measured) == (0, [])
    assert "full model" in result.stdout
    assert list(workplace.output.iterdir()) == []
    finetune = CliRunner().invoke(main, ["finetune", "--pipeline", str(workplace.pipeline), "--work", str(workplace.work)])
    assert finetune.exit_code == 0
    assert "fine-tuned before" in finetune.stderr


def test_nothing_fits(workplace: Workplace) -> None:
    result = run(workplace, "--budget", "1ms")
    assert "would do" in error_line(result, 3)
    assert errors(result) == 1


def test_too_noisy(workplace: Workplace) -> None:
    (workplace.work / "measurements.sqlite").unlink()
    workplace.fake.noisy = lambda deployment, device: True
    result = run(workplace, "--budget", BUDGET)
    assert "16 of 16 measurements could not be believed; stop what else runs on this host" in error_line(result, 5)
    assert errors(result) == 1


def test_the_disk_is_full(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    shutil.rmtree(workplace.artifact)
    monkeypatch.setattr("instatune_deploy.artifact.write.write_graph", full)
    result = run(workplace, "--budget", BUDGET)
    assert error_line(result, 2) == f"Error: cannot write {workplace.artifact}: the disk is full; free some space and run again"
    assert list(workplace.output.iterdir()) == []


def test_another_folder_in_the_artifacts_place(workplace: Workplace) -> None:
    (workplace.artifact / "manifest.json").unlink()
    assert "it exists and is no artifact" in error_line(run(workplace, "--budget", BUDGET), 2)


def test_several_devices(workplace: Workplace) -> None:
    """The lines of the failed one stand where it failed; the last line says how many."""
    (workplace.work / "measurements.sqlite").unlink()
    shutil.rmtree(workplace.output)
    workplace.fake.noisy = lambda deployment, device: device == "noisy-cpu"
    result = run(workplace, "--budget", BUDGET, names=("noisy-cpu", "tiny-cpu"))
    assert error_line(result, 5) == "Error: 1 of 2 devices have no result; see above"
    assert "Error: device noisy-cpu: " in result.stderr
    assert (workplace.artifact / "manifest.json").is_file()


@pytest.mark.parametrize(("slower", "noisy", "code"), [(1.0, False, 0), (3.0, False, 4), (1.0, True, 5)])
def test_verify(workplace: Workplace, monkeypatch: pytest.MonkeyPatch, slower: float, noisy: bool, code: int) -> None:
    workplace.fake.slower = lambda deployment: slower
    workplace.fake.noisy = lambda deployment, device: noisy
    monkeypatch.setattr(verify_module.verify, "__defaults__", (workplace.fake.verify_again,))
    result = CliRunner().invoke(main, ["verify", str(workplace.artifact)])
    assert result.exit_code == code, result.stderr
    word = {0: "ok", 4: "FAILED", 5: "unclear"}[code]
    assert next(line for line in result.stdout.splitlines() if "budget: " in line).split()[0] == word
    if code:
        assert error_line(result, code).startswith(f"Error: {workplace.artifact}: budget: ")


def test_ctrl_c(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    (workplace.work / "measurements.sqlite").unlink()
    monkeypatch.setattr("instatune_deploy.pipeline.bench.measure_graph", interrupted)
    result = run(workplace, "profile")
    assert result.exit_code == 130
    assert result.stderr.endswith("\nInterrupted. Checkpoints and measurements are kept: the same command goes on from there.\n")
