from __future__ import annotations

import itertools
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from instatune_deploy.errors import UserError
from instatune_deploy.finetune import training as trainer_file
from instatune_deploy.finetune.batches import GroupedByLength
from instatune_deploy.finetune.checkpoints import SafeCheckpoints
from instatune_deploy.finetune.evaluate import Evaluator
from instatune_deploy.supernet.network import SuperNetwork
from instatune_deploy.supernet.space import SearchSpace
from instatune_deploy.tasks.text_inputs import padded_batches

Train = Callable[..., tuple[SuperNetwork, list[dict[str, float]]]]
EPOCH = {"epochs": 2, "count": 60, "checkpoint_steps": 3}  # 8 steps an epoch, the last of 4 rows


@pytest.fixture(scope="module")
def undisturbed(train: Train, tmp_path_factory: pytest.TempPathFactory) -> tuple[SuperNetwork, list[dict[str, float]]]:
    """What two epochs give when nothing happens."""
    return train(tmp_path_factory.mktemp("undisturbed"), **EPOCH)


@pytest.fixture
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock in whose eyes every step takes a second, so that every step is reported."""
    clock = itertools.count(1.0)
    monkeypatch.setattr(trainer_file, "time", SimpleNamespace(monotonic=lambda: next(clock)))


def stop_at(step: int) -> Callable[[int, int, float], None]:
    def report(done: int, total: int, loss: float) -> None:
        if done == step:
            raise KeyboardInterrupt

    return report


def assert_equal(one: SuperNetwork, other: SuperNetwork) -> None:
    state, expected = one.model.state_dict(), other.model.state_dict()
    different = [name for name in expected if not torch.equal(state[name], expected[name])]
    assert not different


@pytest.mark.usefixtures("every_step")
@pytest.mark.parametrize(
    ("stops", "kept"),
    [
        ([1], None),  # before the first checkpoint: from the start
        ([5], 3),  # first epoch
        ([6], 3),  # the checkpoint of this very step is not written yet
        ([10], 9),  # second epoch
        ([5, 13], 12),  # twice
    ],
)
def test_an_interrupted_training_ends_as_an_undisturbed_one(
    train: Train, undisturbed: Any, tmp_path: Path, stops: list[int], kept: int | None
) -> None:
    expected, log = undisturbed
    for stop in stops:
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "stopped", report=stop_at(stop), **EPOCH)
        scramble()
    found = trainer_file.last_checkpoint(tmp_path / "stopped")
    assert (found and found.name) == (kept and f"checkpoint-{kept}")
    steps: list[int] = []
    network, again = train(tmp_path / "stopped", report=lambda done, total, loss: steps.append(done), **EPOCH)
    assert steps == list(range((kept or 0) + 1, 17))
    assert_equal(network, expected)
    # the loss is a mean since the last entry or the last start
    assert [(entry["step"], entry["learning_rate"]) for entry in again] == [
        (entry["step"], entry["learning_rate"]) for entry in log
    ]


def scramble() -> None:
    """Another process would begin with other random numbers."""
    random.seed(99)
    np.random.seed(99)
    torch.manual_seed(99)


@pytest.mark.parametrize("part", ["_save", "_save_optimizer_and_scheduler", "_save_rng_state"])
def test_a_stop_while_a_checkpoint_is_written(
    train: Train, undisturbed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    save, calls = getattr(SafeCheckpoints, part), itertools.count(1)

    def stop_after_the_second(*arguments: Any, **named: Any) -> None:
        save(*arguments, **named)
        if next(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(SafeCheckpoints, part, stop_after_the_second)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, **EPOCH)
    assert (tmp_path / "checkpoint-6").is_dir()
    assert trainer_file.last_checkpoint(tmp_path) == tmp_path / "checkpoint-3"
    network, _ = train(tmp_path, **EPOCH)
    assert_equal(network, undisturbed[0])


def test_same_seed_same_weights_whatever_was_random_before(train: Train, tmp_path: Path) -> None:
    one, _ = train(tmp_path / "1", max_steps=5)
    scramble()
    other, _ = train(tmp_path / "2", max_steps=5)
    assert_equal(one, other)
    different, _ = train(tmp_path / "3", max_steps=5, seed=1)
    assert not torch.equal(different.model.classifier.weight, one.model.classifier.weight)


def test_checkpoint_interval_changes_nothing(train: Train, tmp_path: Path) -> None:
    one, _ = train(tmp_path / "1", max_steps=5, checkpoint_steps=1)
    other, _ = train(tmp_path / "2", max_steps=5, checkpoint_steps=100)
    assert_equal(one, other)


def test_learns_in_all_sizes(
    train: Train,
    make_network: Callable[[], SuperNetwork],
    rows: list[dict[str, Any]],
    tiny_space: SearchSpace,
    tiny_tokenizer: Any,
    tmp_path: Path,
) -> None:
    def losses(network: SuperNetwork) -> list[float]:
        evaluator = Evaluator(network, padded_batches(columns(rows[:16]), 8, tiny_tokenizer), labels)
        members = (tiny_space.largest(), tiny_space.smallest())
        return [
            float(torch.nn.functional.cross_entropy(torch.from_numpy(evaluator.logits(member)), torch.from_numpy(labels)))
            for member in members
        ]

    labels = np.array([row["labels"] for row in rows[:16]])
    before = losses(make_network())
    network, log = train(tmp_path, epochs=30, batch_size=4, count=16)
    after = losses(network)
    assert min(before) > 0.6
    assert max(after) < 0.2
    assert [entry["step"] for entry in log] == list(range(10, 121, 10))
    assert log[-1]["loss"] < 0.5 * log[0]["loss"]


def columns(rows: list[dict[str, Any]]) -> dict[str, list[list[int]]]:
    return {name: [row[name] for row in rows] for name in rows[0] if name != "labels"}


def test_network_is_left_full_and_in_evaluation_mode(train: Train, tiny_space: SearchSpace, tmp_path: Path) -> None:
    network, _ = train(tmp_path, max_steps=1)
    assert network.architecture == tiny_space.largest()
    assert {module.training for module in network.modules()} == {False}


@pytest.mark.usefixtures("every_step")
def test_reports_steps_and_loss_of_late(train: Train, tmp_path: Path) -> None:
    seen: list[tuple[int, int, float]] = []
    _, log = train(tmp_path, report=lambda *entry: seen.append(entry), max_steps=12)
    assert [(done, total) for done, total, _ in seen] == [(step, 12) for step in range(1, 13)]
    assert all(loss != loss for _, _, loss in seen[:9])  # nothing to tell yet
    assert seen[11][2] == pytest.approx(log[0]["loss"], abs=1e-3)


def test_last_step_is_always_reported(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer_file, "time", SimpleNamespace(monotonic=lambda: 0.25))
    seen: list[int] = []
    train(tmp_path, report=lambda done, total, loss: seen.append(done), max_steps=3)
    assert seen == [3]


def test_learning_rate_rises_and_falls(train: Train, tmp_path: Path) -> None:
    _, log = train(tmp_path, max_steps=40, warmup_ratio=0.5, learning_rate=1e-3)
    # of step n the logged rate is that after n steps: 10/20, 20/20, 10/20 and 0/20 of the highest
    rates = [entry["learning_rate"] for entry in log]
    assert rates == pytest.approx([5e-4, 1e-3, 5e-4, 0], abs=6e-5)


def test_a_loss_that_is_no_number_names_the_step(train: Train, make_network: Callable[[], SuperNetwork], tmp_path: Path) -> None:
    network = make_network()
    with torch.no_grad():
        network.model.classifier.bias[0] = float("nan")
    with pytest.raises(UserError, match=r"no longer a number at step 1: lower the learning rate"):
        train(tmp_path / "1", network=network, max_steps=3)
    with pytest.raises(UserError, match=r"no longer a number at step [12]: lower"):
        train(tmp_path / "2", learning_rate=1e38, warmup_ratio=0, max_steps=3)


def test_bf16_trains_float32_weights(train: Train, tmp_path: Path) -> None:
    network, log = train(tmp_path, max_steps=20, bf16=True)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    assert np.isfinite([entry["loss"] for entry in log]).all()


def test_every_epoch_holds_every_row_once_in_its_own_order(rows: list[dict[str, Any]]) -> None:
    sampler = GroupedByLength(rows, 8, seed=0)
    orders = []
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
        assert sorted(orders[-1]) == list(range(len(rows)))
    assert orders[0] != orders[1]
    sampler.set_epoch(0)
    assert list(sampler) == orders[0]
    assert list(GroupedByLength(rows, 8, seed=0)) == orders[0]
    assert list(GroupedByLength(rows, 8, seed=1)) != orders[0]


def test_batches_hold_rows_of_like_length(rows: list[dict[str, Any]]) -> None:
    lengths = np.array([len(row["input_ids"]) for row in rows])
    spread = np.ptp(lengths[list(GroupedByLength(rows, 8, seed=0))].reshape(-1, 8), axis=1).mean()
    assert spread < 0.4 * np.ptp(lengths.reshape(-1, 8), axis=1).mean()


def test_a_finished_training_is_not_repeated(train: Train, tmp_path: Path) -> None:
    one, log = train(tmp_path / "a", max_steps=4)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    other, again = train(tmp_path / "b", max_steps=4)
    assert_equal(one, other)
    assert again == log
