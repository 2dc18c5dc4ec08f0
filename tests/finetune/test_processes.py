"""Two processes (gloo, on the CPU) train what one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from instatune_deploy.supernet.space import SearchSpace

from .processes import held_out, losses, train

SCRIPT = Path(__file__).parent / "processes.py"


@pytest.fixture(scope="module")
def place(
    tiny_checkpoint: Path, rows: list[dict[str, Any]], tiny_space: SearchSpace, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """What two processes left behind: 2 processes x 2 batches x 4 rows a step."""
    folder = tmp_path_factory.mktemp("processes")
    settings = {"batch_size": 4, "gradient_accumulation_steps": 2}
    given = {"checkpoint": str(tiny_checkpoint), "rows": rows[:64], "space": tiny_space.to_json(), "settings": settings}
    (folder / "given.json").write_text(json.dumps(given))
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(SCRIPT), str(folder / "given.json")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def alone(
    tiny_checkpoint: Path, rows: list[dict[str, Any]], tiny_space: SearchSpace, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """The trainer of one process, when it is done: 16 rows a step."""
    return train(tiny_checkpoint, rows[:64], tiny_space, tmp_path_factory.mktemp("alone"), batch_size=16)


def test_the_loss_curve_of_one_process(place: Path, alone: Any) -> None:
    results = [json.loads((place / f"result-{rank}.json").read_text()) for rank in (0, 1)]
    assert [result["processes"] for result in results] == [2, 2]
    assert len(losses(alone)) == 6
    assert results[0]["losses"] == pytest.approx(losses(alone), rel=1e-4)
    together = load_file(place / "weights.safetensors")
    for name, value in alone.model.state_dict().items():
        torch.testing.assert_close(together[name], value, rtol=1e-3, atol=1e-4)


def test_continued_exactly(place: Path) -> None:
    assert [json.loads((place / f"result-{rank}.json").read_text())["continued"] for rank in (0, 1)] == [True, True]


def test_one_process_without_a_number_stops_both(place: Path) -> None:
    errors = [json.loads((place / f"batch_loss-{rank}.json").read_text()) for rank in (0, 1)]
    assert [name for name, _ in errors] == ["UserError", "UserError"]
    assert errors[0] == errors[1]
    assert "no longer a number at step 4" in errors[0][1]
    assert (place / "batch_loss" / "checkpoint-2").is_dir()


def test_a_bad_label_in_one_process_stops_both(place: Path) -> None:
    errors = [json.loads((place / f"compute_loss-{rank}.json").read_text()) for rank in (0, 1)]
    assert [name for name, _ in errors] == ["BadInput", "BadInput"]
    assert errors[0][1] == "another process met a label outside 0 to 1: the model has 2 classes"
    assert "is outside 0 to 1" in errors[1][1]


def test_held_out_rows(place: Path, rows: list[dict[str, Any]], alone: Any) -> None:
    results = [json.loads((place / f"result-{rank}.json").read_text()) for rank in (0, 1)]
    expected = held_out(alone, rows[:64])
    for name in ("held_out_loss", "accuracy"):
        assert results[0][name] == results[1][name] == pytest.approx(expected[name], rel=1e-3)
