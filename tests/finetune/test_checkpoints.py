from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from instatune_deploy.errors import BadInput
from instatune_deploy.finetune.checkpoints import last_checkpoint

Train = Callable[..., Any]


@pytest.fixture
def checkpoint(train: Train, tmp_path: Path) -> Path:
    """What four steps leave behind."""
    train(tmp_path, max_steps=4)
    return tmp_path / "checkpoint-4"


def test_no_pickles(checkpoint: Path) -> None:
    names = {path.name for path in checkpoint.iterdir()}
    assert {"model.safetensors", "optimizer.safetensors", "trainer_state.json"} <= names
    for path in checkpoint.parent.rglob("*"):
        if path.is_file():
            assert path.suffix in {".safetensors", ".json"}
            assert path.read_bytes()[:2] not in {b"PK", b"\x80\x02", b"\x80\x04"}  # what torch.save and pickle begin with
    for path in checkpoint.glob("*.json"):
        json.loads(path.read_text())
    for path in checkpoint.glob("*.safetensors"):
        load_file(path)


def test_holds_the_weights_and_every_moment_of_the_optimizer(train: Train, tmp_path: Path) -> None:
    network, _ = train(tmp_path, max_steps=4)
    weights = load_file(tmp_path / "checkpoint-4" / "model.safetensors")
    state = network.model.state_dict()
    assert list(weights) == sorted(state)
    assert all(torch.equal(weights[name], state[name]) for name in state)
    moments = load_file(tmp_path / "checkpoint-4" / "optimizer.safetensors")
    parameters = len(list(network.parameters()))
    assert len(moments) == 3 * parameters
    assert sum(name.endswith(".exp_avg_sq") for name in moments) == parameters
    assert {value.item() for name, value in moments.items() if name.endswith(".step")} == {4.0}


def test_only_the_last_two_are_kept(train: Train, tmp_path: Path) -> None:
    train(tmp_path, max_steps=6, checkpoint_steps=2)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-4", "checkpoint-6"}
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-6"


def test_a_schedule_that_waits_for_the_loss(build: Any, rows: Any, tmp_path: Path) -> None:
    """Its best loss so far is infinite at first, which JSON does not know."""
    args = {"lr_scheduler_type": "reduce_lr_on_plateau", "eval_strategy": "steps", "eval_steps": 4, "max_steps": 4}
    args |= {"save_strategy": "steps", "save_steps": 2, "metric_for_best_model": "loss"}
    trainer = build(args=args)
    trainer.train()
    again = build(args={**args, "max_steps": 6})
    again.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-2"))
    assert again.state.global_step == 6


@pytest.mark.parametrize("name", ["optimizer.safetensors", "training_state.json", "random_state_0.safetensors"])
def test_a_checkpoint_that_was_saved_without(build: Any, tmp_path: Path, name: str) -> None:
    args = {"save_strategy": "steps", "save_steps": 2, "max_steps": 2}
    build(args=args).train()
    (tmp_path / "out" / "checkpoint-2" / name).unlink()
    with pytest.raises(BadInput, match=rf"{name}: missing; a training is continued from checkpoints with optimizer"):
        build(args={**args, "max_steps": 4}).train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-2"))


def make(folder: Path, name: str, state: str | None) -> Path:
    path = folder / name
    path.mkdir()
    if state is not None:
        (path / "trainer_state.json").write_text(state)
    return path


def test_none_there(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path) is None
    assert last_checkpoint(tmp_path / "missing") is None


def test_last_is_the_one_of_most_steps(tmp_path: Path) -> None:
    for name in ("checkpoint-900", "checkpoint-1000", "checkpoint-20"):
        make(tmp_path, name, "{}")
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-1000"


@pytest.mark.parametrize("state", [None, "", '{"global_step": '])
def test_one_cut_short_is_passed_over(tmp_path: Path, state: str | None) -> None:
    make(tmp_path, "checkpoint-30", state)
    assert last_checkpoint(tmp_path) is None
    whole = make(tmp_path, "checkpoint-20", "{}")
    make(tmp_path, "checkpoint-best", "{}")
    make(tmp_path, "tmp-checkpoint-40", "{}")
    assert last_checkpoint(tmp_path) == whole
