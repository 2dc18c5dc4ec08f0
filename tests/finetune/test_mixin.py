from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax
from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding, Trainer, TrainingArguments

from instatune_deploy.config import FinetuneSettings, SpaceSettings
from instatune_deploy.errors import BadInput, UserError
from instatune_deploy.finetune.evaluate import Evaluator
from instatune_deploy.finetune.mixin import SuperNetworkMixin, SuperNetworkTrainer
from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.supernet.network import SuperNetwork
from instatune_deploy.supernet.space import SearchSpace

Rows = list[dict[str, Any]]
PAPER = {"sampler": "alternating", "full_epochs": 0.0, "correct_prefixes": False, "dropout": "model", "importance": "taylor"}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


@pytest.fixture
def build(make_model: Callable[..., Any], rows: Rows, tiny_space: SearchSpace, tiny_tokenizer: Any, tmp_path: Path) -> Any:
    """A trainer of a new model without dropout; arguments of `SuperNetworkTrainer`, the Trainer's arguments as ``args``."""

    def make(kind: type = SuperNetworkTrainer, args: dict[str, Any] | None = None, **named: Any) -> Any:
        defaults = {"per_device_train_batch_size": 8, "max_steps": 3, "optim": "sgd", "lr_scheduler_type": "constant"}
        defaults |= {"learning_rate": 0.02, "logging_steps": 1, "disable_tqdm": True, "use_cpu": True, "save_strategy": "no"}
        chosen = {**defaults, **(args or {})}
        arguments = TrainingArguments(output_dir=str(tmp_path / "out"), **chosen)
        named.setdefault("space", tiny_space)
        named.setdefault("settings", recipe(importance_rows=0))
        model = named.pop("model", None) or make_model(**NO_DROPOUT)
        return kind(
            model=model,
            args=arguments,
            train_dataset=named.pop("train_dataset", rows),
            eval_dataset=rows[:32],
            data_collator=DataCollatorWithPadding(tiny_tokenizer),
            **named,
        )

    return make


def recipe(**changes: Any) -> FinetuneSettings:
    """Said in full: what is asserted here does not follow the defaults."""
    return FinetuneSettings.model_validate({**PAPER, **changes})


def losses(trainer: Any) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def state(trainer: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


def kl(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    return kl_div(log_softmax(student, -1), log_softmax(teacher, -1), log_target=True, reduction="batchmean")


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0])
def test_a_step_is_eq_1_of_the_extracted_networks(
    build: Any, make_model: Any, rows: Rows, tiny_tokenizer: Any, gamma: float
) -> None:
    teacher = make_model(seed=5)
    settings = recipe(importance_rows=0, gamma=gamma, alpha=0.4, sampler="sandwich", samples=2)
    trainer = build(train_dataset=rows[:8], settings=settings, teacher=teacher, args={"max_steps": 1})
    members = trainer.sub_networks()
    assert len(members) == 3
    batch = DataCollatorWithPadding(tiny_tokenizer)(rows[:8])
    labels = batch.pop("labels")
    with torch.no_grad():
        outputs = [trainer.supernetwork.extract(member)(**batch).logits for member in [trainer.space.largest(), *members]]
        taught = teacher(**batch).logits
    full, *subs = outputs
    expected = 0.4 * cross_entropy(full, labels) + 0.6 * gamma * kl(full, taught)
    for sub in subs:
        guided = (1 - gamma) * kl(sub, full) + gamma * kl(sub, taught)
        expected = expected + (0.4 * cross_entropy(sub, labels) + 0.6 * guided) / 3
    trainer.train()
    assert losses(trainer)[0] == pytest.approx(float(expected), rel=1e-3)


@pytest.mark.parametrize("rows_of_epoch", [32, 28])
def test_accumulated_batches_are_one_large_batch(build: Any, rows: Rows, make_model: Any, rows_of_epoch: int) -> None:
    """Also the last, smaller step of an epoch (8 + 4 rows)."""

    def train(size: int, steps: int) -> Any:
        arguments = {
            "per_device_train_batch_size": size,
            "gradient_accumulation_steps": steps,
            "max_steps": 4,
            "max_grad_norm": 0.0,
        }
        arguments["train_sampling_strategy"] = "sequential"
        settings = recipe(importance_rows=0, sampler="sandwich")
        trainer = build(args=arguments, train_dataset=rows[:rows_of_epoch], settings=settings, teacher=make_model(seed=5))
        trainer.train()
        return trainer

    once, twice = train(16, 1), train(8, 2)
    assert losses(twice) == pytest.approx(losses(once), rel=1e-3)
    for name, value in state(once).items():
        torch.testing.assert_close(state(twice)[name], value, rtol=1e-4, atol=2e-6)


def test_label_smoothing_and_loss_functions_of_the_user(build: Any) -> None:
    def smoothed(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        return cross_entropy(outputs.logits, labels, label_smoothing=0.2, reduction="sum") / num_items_in_batch

    class Own(Trainer):
        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
            labels = inputs.pop("labels")
            outputs = model(**inputs)
            loss = cross_entropy(outputs.logits, labels, label_smoothing=0.2)
            return (loss, outputs) if return_outputs else loss

    class OwnSuperNetworkTrainer(SuperNetworkMixin, Own):
        pass

    found = []
    for kind, arguments, named in (
        (SuperNetworkTrainer, {"label_smoothing_factor": 0.2}, {}),
        (
            SuperNetworkTrainer,
            {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 4},
            {"compute_loss_func": smoothed},
        ),
        (OwnSuperNetworkTrainer, {}, {}),
        (SuperNetworkTrainer, {}, {}),
    ):
        trainer = build(kind, args={"train_sampling_strategy": "sequential", **arguments}, **named)
        trainer.train()
        found.append(losses(trainer))
    assert found[1] == pytest.approx(found[0], rel=1e-3)
    assert found[2] == pytest.approx(found[0], rel=1e-3)
    assert abs(found[3][0] - found[0][0]) > 1e-3


def test_evaluation_is_of_the_full_network(build: Any, rows: Rows, tiny_space: SearchSpace, tiny_tokenizer: Any) -> None:
    trainer = build(compute_metrics=lambda predicted: {"right": float((predicted[0].argmax(1) == predicted[1]).mean())})
    trainer.train()
    columns = {name: [row[name] for row in rows[:32]] for name in rows[0] if name != "labels"}
    labels = np.array([row["labels"] for row in rows[:32]])
    evaluator = Evaluator(trainer.supernetwork, columns, labels, tiny_tokenizer)
    metrics = trainer.evaluate()
    assert metrics["eval_right"] == evaluator.accuracy(tiny_space.largest())
    logits = torch.from_numpy(evaluator.logits(tiny_space.largest()).copy())
    assert metrics["eval_loss"] == pytest.approx(float(cross_entropy(logits, torch.from_numpy(labels))), rel=1e-4)
    members = [tiny_space.smallest(), tiny_space.largest(), Architecture((0, 3), (2, 4), (48, 16))]
    assert trainer.evaluate_architectures(members) == evaluator.evaluate(members)
    # the trainer sums other batches
    logits = torch.from_numpy(evaluator.logits(members[0]).copy())
    assert trainer.held_out_loss(members[0]) == pytest.approx(float(cross_entropy(logits, torch.from_numpy(labels))), rel=1e-4)
    assert trainer.supernetwork.architecture == tiny_space.largest()


def test_what_is_saved_is_loaded_as_any_checkpoint(build: Any, rows: Rows, tmp_path: Path) -> None:
    trainer = build(args={"save_strategy": "steps", "save_steps": 2})
    trainer.train()
    trainer.save_model(str(tmp_path / "saved"))
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved")
    assert all(torch.equal(value, trainer.model.state_dict()[name]) for name, value in model.state_dict().items())
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".safetensors", ".json"}
    assert (tmp_path / "out" / "checkpoint-2").is_dir()


@pytest.mark.parametrize("space", ["wide", SpaceSettings(depths=[2]), "paper"])
def test_spaces(build: Any, space: Any) -> None:
    trainer = build(space=space)
    assert isinstance(trainer.space, SearchSpace)
    assert trainer.space.largest() == trainer.supernetwork.shape.full()


def test_layers_kept_by_importance(build: Any) -> None:
    settings = recipe(importance_rows=16)
    trainer = build(space=SpaceSettings(keep_layers="importance"), settings=settings)
    assert sorted(trainer.space.layer_order) == [0, 1, 2, 3]
    assert build(space=SpaceSettings(keep_layers="importance"), settings=settings).space == trainer.space


def test_heads_and_neurons_are_ordered_before_the_first_step(build: Any, make_model: Any) -> None:
    changed = {}
    for rows in (0, 16):
        trainer = build(args={"learning_rate": 1e-12}, settings=recipe(importance_rows=rows))
        trainer.train()
        before = make_model(**NO_DROPOUT).state_dict()
        name = "bert.encoder.layer.0.intermediate.dense.weight"
        changed[rows] = not torch.allclose(trainer.model.state_dict()[name], before[name])
        # the same rows of the matrix, in another order
        for found, expected in zip(trainer.model.state_dict()[name].sum(1).sort()[0], before[name].sum(1).sort()[0], strict=True):
            assert float(found) == pytest.approx(float(expected), abs=1e-5)
    assert changed == {0: False, 16: True}


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
    trainer = build(Watched, args={"max_steps": 5}, train_dataset=rows[:32], settings=settings, teacher=make_model(seed=5))
    trainer.train()
    assert trainer.ordered == [2]
    assert trainer.steps == [(0, 0, True), (1, 0, True), (2, 1, True), (3, 1, False), (4, 1, False)]


@pytest.mark.parametrize(("full_epochs", "ordered_again"), [(0.0, []), (0.5, [2])])
def test_continued_exactly(
    build: Any, rows: Rows, make_model: Any, tmp_path: Path, full_epochs: float, ordered_again: list[int]
) -> None:
    """From step 2, with a teacher, accumulated gradients and AdamW; what was ordered before is not ordered again."""
    settings = recipe(importance_rows=16, full_epochs=full_epochs, teacher_epochs=0.75)
    arguments = {"max_steps": 5, "gradient_accumulation_steps": 2, "per_device_train_batch_size": 4, "optim": "adamw_torch_fused"}
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


def test_as_the_readme_says(make_model: Any, rows: Rows, tiny_tokenizer: Any, tmp_path: Path) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    code = next(part for part in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "SuperNetworkTrainer" in part)
    arguments = TrainingArguments(output_dir=str(tmp_path), per_device_train_batch_size=8, num_train_epochs=1, use_cpu=True)
    names = {"model": make_model(), "args": arguments, "rows": rows[:40], "collate": DataCollatorWithPadding(tiny_tokenizer)}
    exec(code, names)
    assert names["small"].config.num_hidden_layers == 2  # a third of four, rounded up
    assert names["small"](input_ids=torch.arange(9)[None] + 7).logits.shape == (1, 2)


def test_one_gpu_of_several_and_no_model(build: Any, tiny_space: SearchSpace) -> None:
    with pytest.raises(BadInput, match="needs a model"):
        SuperNetworkTrainer(space=tiny_space)


def test_spaces_that_do_not_fit(build: Any, tiny_space: SearchSpace) -> None:
    with pytest.raises(BadInput, match="space 'huge' is not known; known are: paper, wide"):
        build(space="huge")
    with pytest.raises(BadInput, match="5 is more than the model has"):
        build(space=SpaceSettings(heads=[5]))
    with pytest.raises(BadInput, match=r"largest member \(4 layers, heads 2, MLP 64\) is not the model \(4 layers, heads 4"):
        build(space=SearchSpace(4, (4,), (1, 2), (64,)))


def test_labels_and_rows_that_do_not_fit(build: Any, rows: Rows) -> None:
    wrong = [{**rows[0], "labels": 2}]
    with pytest.raises(BadInput, match=r"^label 2 \(row 40\) is outside 0 to 1: the model has 2 classes$"):
        build(train_dataset=rows[:40] + wrong)
    with pytest.raises(BadInput, match=r"^7 training rows are fewer than one batch \(8\)"):
        build(train_dataset=rows[:7])
    with pytest.raises(BadInput, match=r"^12 training rows are fewer than one batch \(16\)"):
        build(train_dataset=rows[:12], args={"gradient_accumulation_steps": 2})


class Stream(torch.utils.data.IterableDataset):  # type: ignore[type-arg]
    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def __iter__(self) -> Any:
        return iter(self.rows)


def test_labels_of_a_stream_are_checked_when_they_are_seen(build: Any, rows: Rows) -> None:
    trainer = build(train_dataset=Stream([*rows[:20], {**rows[0], "labels": -1}, *rows[:20]]), settings=recipe(importance_rows=8))
    with pytest.raises(BadInput, match="label -1"):
        trainer.train()
    assert trainer.state.global_step == 2


def test_a_bad_step_keeps_the_last_good_checkpoint(build: Any, tmp_path: Path) -> None:
    """The third step's gradients are no numbers though its loss is one: its weights are never saved."""
    arguments = {"save_strategy": "steps", "save_steps": 1, "max_steps": 5, "max_grad_norm": 0.0}

    class Spoilt(SuperNetworkTrainer):
        def training_step(self, *positional: Any, **named: Any) -> Any:
            loss = super().training_step(*positional, **named)
            if self.state.global_step == 2:
                self.model.classifier.bias.grad[0] = float("inf")
            return loss

    trainer = build(Spoilt, args=arguments)
    with pytest.raises(
        UserError, match=r"a weight is no longer a number at step 3: lower the learning rate .*checkpoint-2 is kept"
    ) as error:
        trainer.train()
    assert error.value.exit_code == 1
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"checkpoint-1", "checkpoint-2"}
    assert json.loads((tmp_path / "out" / "checkpoint-2" / "trainer_state.json").read_text())["global_step"] == 2


def test_attention_is_set_back(build: Any) -> None:
    trainer = build()
    seen = set()
    trainer.supernetwork.register_forward_pre_hook(lambda *_: None)
    compute = trainer.batch_loss

    def watched(model: Any, inputs: Any) -> Any:
        seen.add(model.config._attn_implementation)
        return compute(model, inputs)

    trainer.batch_loss = watched
    before = trainer.model.config._attn_implementation
    trainer.train()
    assert (before, trainer.model.config._attn_implementation) == ("sdpa", "sdpa")
    assert seen == {"eager"}


def test_a_network_may_be_given(build: Any, tiny_network: SuperNetwork) -> None:
    assert build(model=tiny_network).supernetwork is tiny_network
