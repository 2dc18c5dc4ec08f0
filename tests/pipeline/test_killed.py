"""SIGKILL in every stage, and Ctrl-C: the same command goes on from there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from instatune_deploy.artifact.manifest import read_manifest
from instatune_deploy.devices.store import MeasurementStore
from instatune_deploy.files import read_json

from .conftest import BUDGET, installed
from .fakes import FakeDevice, Place, write_pipeline, write_profile
from .killed import ROWS, STEP

STEPS = 20
TESTS = Path(__file__).parent.parent


@pytest.fixture
def fresh(tiny_checkpoint: Path, tiny_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Nothing done yet; a checkpoint after every step."""
    pipeline = write_pipeline(tmp_path, tiny_checkpoint, tiny_csv, steps=STEPS, checkpoint_steps=1)
    return Place(tmp_path, pipeline, installed(monkeypatch, FakeDevice()))


def kill_in(moment: str, place: Place, *command: str) -> str:
    """Run the command until it kills itself in ``moment``; what it said on standard error."""
    steps = str(place.folder / "steps.txt")
    where = ["--pipeline", str(place.pipeline), "--work", str(place.work)]
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.killed", moment, steps, *command, *where],
        cwd=TESTS,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    return done.stderr


def trained(place: Place) -> list[int]:
    """Every training step that was begun, by its number."""
    return [int(line) for line in (place.folder / "steps.txt").read_text().split()]


def weights(place: Place) -> dict[str, object]:
    (folder,) = (place.work / "supernets").iterdir()
    return {name: value.tolist() for name, value in load_file(folder / "model" / "model.safetensors").items()}


def test_killed_in_one_stage_after_the_other(fresh: Place, finished: Place) -> None:
    deploy = ["--device", str(write_profile(fresh.folder)), "--budget", BUDGET, "--output", str(fresh.output)]

    def rows() -> list[object]:
        with MeasurementStore(fresh.work / "measurements.sqlite") as store:
            return list(store.select(believed=None))

    kill_in("a checkpoint", fresh, *deploy)
    assert trained(fresh) == [*range(STEP)]
    (supernet,) = (fresh.work / "supernets").iterdir()
    assert (supernet / "checkpoints" / f"checkpoint-{STEP}").is_dir()  # a half one: passed over for the one before

    said = kill_in("the profile", fresh, *deploy)
    assert "ordered by importance" not in said  # that was before the first step
    steps = [*range(STEP), *range(STEP - 1, STEPS)]
    assert trained(fresh) == steps
    assert [entry["step"] for entry in read_json(supernet / "supernet.json")["log"]] == [10, 20]
    assert not (supernet / "checkpoints").exists()
    first = rows()
    assert len(first) == ROWS

    said = kill_in("the export", fresh, *deploy)
    assert "fine-tuned before" in said
    assert f"profile: 16 deployments, {16 - ROWS + 1} of them not measured before" in said  # of the last, the accuracy is missing
    assert rows()[:ROWS] == first
    assert not fresh.artifact.exists()

    fresh.job(BUDGET).run()
    assert "profile and search: done before" in fresh.said
    assert fresh.fake.measured == []
    assert trained(fresh) == steps
    # all of it is what a run that nobody disturbed comes to
    assert supernet.name == next((finished.work / "supernets").iterdir()).name
    assert weights(fresh) == weights(finished)
    assert [row.deployment for row in rows()] == finished.fake.measured  # type: ignore[attr-defined]
    assert read_manifest(fresh.artifact).deployment == read_manifest(finished.artifact).deployment


def test_ctrl_c(fresh: Place, tiny_checkpoint: Path, tiny_csv: Path) -> None:
    endless = write_pipeline(fresh.folder, tiny_checkpoint, tiny_csv, steps=1_000_000, checkpoint_steps=1)
    command = ["finetune", "--pipeline", str(endless), "--work", str(fresh.work)]
    process = subprocess.Popen(
        [sys.executable, "-m", "instatune_deploy", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a shell's background jobs ignore it, and so would what they start
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        while process.poll() is None and not list(fresh.work.glob("supernets/*/checkpoints/checkpoint-*/trainer_state.json")):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, said = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 130, said
    assert out == ""
    assert said.endswith("\nInterrupted. Checkpoints and measurements are kept: the same command goes on from there.\n")
    assert "Traceback" not in said
    assert list(fresh.work.glob("supernets/*/checkpoints/checkpoint-*"))
