"""What happens when in a training: ordering, correction, sub-networks, the teacher; and going on in the middle of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from instatune_deploy.finetune.mixin import SuperNetworkTrainer
from instatune_deploy.supernet.architecture import Architecture

from .conftest import NO_DROPOUT, Rows, recipe
from .test_mixin import state

EPOCH_AND_A_QUARTER = {"max_steps": -1, "num_train_epochs": 1.25}
"""Five steps of eight rows of 32."""


def test_heads_and_neurons_are_ordered_before_the_first_step(build: Any, make_model: Any) -> None:
    changed = {}
    for rows, importance in ((0, "fisher"), (16, "fisher"), (0, "weight-norm")):  # norms of weights need no rows
        trainer = build(args={"learning_rate": 1e-12}, settings=recipe(importance_rows=rows, importance=importance))
        trainer.train()
        before = make_model(**NO_DROPOUT).state_dict()
        name = "bert.encoder.layer.0.intermediate.dense.weight"
        changed[rows, importance] = not torch.allclose(trainer.model.state_dict()[name], before[name])
        # the same rows of the matrix, in another order
        for found, expected in zip(trainer.model.state_dict()[name].sum(1).sort()[0], before[name].sum(1).sort()[0], strict=True):
            assert float(found) == pytest.approx(float(expected), abs=1e-5)
    assert changed == {(0, "fisher"): False, (16, "fisher"): True, (0, "weight-norm"): True}


class Watched(SuperNetworkTrainer):
    """Remembers, of every step, how many sub-networks it trained and whether a teacher taught; and when it ordered."""

    def __init__(self, *positional: Any, **named: Any) -> None:
        self.steps: list[tuple[int, int, bool]] = []
        self.ordered: list[int] = []
        super().__init__(*positional, **named)

    def sub_networks(self) -> list[Architecture]:
        members = super().sub_networks()
        self.last = len(members)
        return members

    def _teacher_logits(self, inputs: Any) -> Any:
        logits = super()._teacher_logits(inputs)
        self.steps.append((self.state.global_step, len(SuperNetworkTrainer.sub_networks(self)), logits is not None))
        return logits

    def order_by_importance(self) -> None:
        self.ordered.append(self.state.global_step)
        super().order_by_importance()


def test_a_warm_up_of_the_full_network_then_ordering_and_a_teacher_in_the_first_epochs(
    build: Any, rows: Rows, make_model: Any
) -> None:
    # 4 steps an epoch
    settings = recipe(importance_rows=16, full_epochs=0.5, teacher_epochs=0.75)
    trainer = build(Watched, args=EPOCH_AND_A_QUARTER, train_dataset=rows[:32], settings=settings, teacher=make_model(seed=5))
    trainer.train()
    assert trainer.ordered == [2]
    assert trainer.steps == [(0, 0, True), (1, 0, True), (2, 1, True), (3, 1, False), (4, 1, False)]


@pytest.mark.parametrize(("full_epochs", "ordered_again"), [(0.0, []), (0.5, [2])])
def test_continued_exactly(
    build: Any, rows: Rows, make_model: Any, tmp_path: Path, full_epochs: float, ordered_again: list[int]
) -> None:
    """From step 2, with a teacher, accumulated gradients and AdamW; what was ordered before is not ordered again."""
    settings = recipe(importance_rows=16, full_epochs=full_epochs, teacher_epochs=0.75)
    arguments = {
        **EPOCH_AND_A_QUARTER,
        "gradient_accumulation_steps": 2,
        "per_device_train_batch_size": 4,
        "optim": "adamw_torch_fused",
    }
    arguments |= {"save_strategy": "steps", "save_steps": 2, "learning_rate": 1e-3}

    def make() -> Any:
        named = {"train_dataset": rows[:32], "settings": settings, "teacher": make_model(seed=5), "model": make_model()}
        return build(Watched, args=arguments, **named)

    whole = make()
    whole.train()
    torch.manual_seed(99)
    again = make()
    again.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-2"))
    assert again.ordered == ordered_again
    assert [step for step, _, _ in again.steps] == [2, 2, 3, 3, 4, 4]
    assert all(torch.equal(value, state(again)[name]) for name, value in state(whole).items())


@pytest.mark.parametrize(
    ("args", "full_epochs", "ordered"),
    [
        ({"max_steps": 5}, 3.0, 1),  # at most a fifth of the steps
        ({"max_steps": 3}, 3.0, 0),
        ({"max_steps": -1, "num_train_epochs": 1}, 0.9, 3),  # 3.6 steps, but of four the last has sub-networks
    ],
)
def test_sub_networks_are_trained_however_short_the_training(
    build: Any, rows: Rows, args: dict[str, Any], full_epochs: float, ordered: int
) -> None:
    settings = recipe(importance_rows=16, full_epochs=full_epochs, epochs=4)
    trainer = build(Watched, args=args, train_dataset=rows[:32], settings=settings)
    trainer.train()
    assert trainer.ordered == [ordered]
    assert [members for _, members, _ in trainer.steps] == [int(step >= ordered) for step in range(trainer.state.max_steps)]


@pytest.mark.parametrize("corrected", [False, True])
def test_the_correction_forgets_the_moments(build: Any, rows: Rows, corrected: bool) -> None:
    class Looking(SuperNetworkTrainer):
        def order_by_importance(self) -> None:
            before = len(self.optimizer.state)
            super().order_by_importance()
            self.moments = before, len(self.optimizer.state)

    settings = recipe(importance_rows=16, full_epochs=0.5, correct_prefixes=corrected)
    args = {**EPOCH_AND_A_QUARTER, "optim": "adamw_torch_fused"}
    trainer = build(Looking, args=args, train_dataset=rows[:32], settings=settings)
    trainer.train()
    before, after = trainer.moments
    assert before > 0
    assert after == (0 if corrected else before)


def test_the_correction_brings_small_networks_nearer_to_the_full_one(build: Any, tiny_tokenizer: Any, rows: Rows) -> None:
    def distance(corrected: bool) -> float:
        trainer = build(settings=recipe(importance_rows=96, correct_prefixes=corrected))
        trainer.order_by_importance()
        batch = trainer.data_collator(rows[96:])
        del batch["labels"]
        member = Architecture((0, 1, 2, 3), (4,) * 4, (16,) * 4)
        with torch.no_grad():
            full = trainer.supernetwork(**batch).logits
            with trainer.supernetwork.active(member):
                return float((trainer.supernetwork(**batch).logits - full).square().mean())

    assert distance(True) < 0.7 * distance(False)
