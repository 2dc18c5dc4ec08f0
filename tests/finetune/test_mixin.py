from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax
from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding, Trainer, TrainingArguments
from transformers.integrations.integration_utils import TensorBoardCallback

from instatune_deploy.config import SpaceSettings
from instatune_deploy.errors import UserError
from instatune_deploy.finetune.evaluate import Evaluator
from instatune_deploy.finetune.mixin import SuperNetworkMixin, SuperNetworkTrainer
from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.supernet.network import SuperNetwork
from instatune_deploy.supernet.space import SearchSpace
from instatune_deploy.tasks.text_inputs import padded_batches

from .conftest import Rows, recipe


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
    evaluator = Evaluator(trainer.supernetwork, padded_batches(columns, 8, tiny_tokenizer), labels)
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


def test_as_the_readme_says(make_model: Any, rows: Rows, tiny_tokenizer: Any, tmp_path: Path) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    code = next(part for part in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "SuperNetworkTrainer" in part)
    arguments = TrainingArguments(output_dir=str(tmp_path), per_device_train_batch_size=8, num_train_epochs=1, use_cpu=True)
    names = {"model": make_model(), "args": arguments, "rows": rows[:40], "collate": DataCollatorWithPadding(tiny_tokenizer)}
    exec(code, names)
    assert names["small"].config.num_hidden_layers == 2  # a third of four, rounded up
    assert names["small"](input_ids=torch.arange(9)[None] + 7).logits.shape == (1, 2)


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
    trainer.model.register_forward_pre_hook(lambda model, _: seen.add(model.config._attn_implementation))
    before = trainer.model.config._attn_implementation
    trainer.train()
    assert (before, trainer.model.config._attn_implementation) == ("sdpa", "sdpa")
    assert seen == {"eager"}


def test_a_network_may_be_given(build: Any, tiny_network: SuperNetwork) -> None:
    assert build(model=tiny_network).supernetwork is tiny_network


def test_a_second_trainer_of_the_same_model_goes_on_with_it(build: Any, make_model: Any, tiny_space: SearchSpace) -> None:
    model = make_model()
    first = build(model=model)
    first.train()
    second = build(model=model)
    assert all(torch.equal(value, second.model.state_dict()[name]) for name, value in state(first).items())
    second.train()
    assert first.model is second.model is model
    # two views of one network
    second.supernetwork.activate(tiny_space.smallest())
    assert first.supernetwork.architecture == tiny_space.smallest()
    assert SuperNetwork(model).architecture == first.supernetwork.architecture == tiny_space.largest()
    tokens = torch.arange(9)[None] + 7
    small = first.supernetwork.extract(tiny_space.smallest())
    with first.supernetwork.active(tiny_space.smallest()):
        torch.testing.assert_close(small(input_ids=tokens).logits, model.eval()(input_ids=tokens).logits)


@pytest.mark.parametrize(
    ("dropout", "expected"),
    [("model", {(True, 0.25), (False, 0.25)}), ("full", {(True, 0.25), (False, 0.0)}), ("none", {(True, 0.0), (False, 0.0)})],
)
def test_dropout_of_the_networks_of_a_step(build: Any, make_model: Any, dropout: str, expected: set[tuple[bool, float]]) -> None:
    """With what probability the last dropout ran in the full network (True), and in the sub-networks."""
    trainer = build(model=make_model(hidden_dropout_prob=0.25), settings=recipe(importance_rows=0, dropout=dropout))
    seen, largest = set(), trainer.space.largest()
    last = trainer.model.dropout
    last.register_forward_hook(lambda module, *_: seen.add((trainer.supernetwork.architecture == largest, module.p)))
    # the smallest or a random one: none is the full network
    trainer.train()
    assert seen == expected
    assert last.p == 0.25


@pytest.mark.parametrize(("dropout", "each_step"), [("model", 1), ("full", 3), ("none", 1)])
def test_the_networks_of_a_step_share_their_embeddings(build: Any, make_model: Any, dropout: str, each_step: int) -> None:
    """Unless the full network drops out of them what the others keep."""
    settings = recipe(importance_rows=0, dropout=dropout, sampler="sandwich")
    trainer = build(model=make_model(hidden_dropout_prob=0.25), settings=settings)
    looked_up: list[int] = []
    words = trainer.model.get_input_embeddings()
    words.register_forward_hook(lambda module, given, output: looked_up.append(trainer.state.global_step))
    trainer.train()
    assert looked_up == [step for step in range(3) for _ in range(each_step)]


def test_a_sub_network_whose_loss_raises_leaves_the_full_one_as_it_was(build: Any, make_model: Any) -> None:
    calls = []

    def second_raises(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        calls.append(trainer.supernetwork.architecture)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return cross_entropy(outputs.logits, labels)

    model = make_model(hidden_dropout_prob=0.25)
    trainer = build(model=model, settings=recipe(importance_rows=0, dropout="none"), compute_loss_func=second_raises)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert calls[0] == trainer.space.largest() != calls[1]
    assert trainer.supernetwork.architecture == trainer.space.largest()
    assert model.dropout.p == 0.25


def test_tensorboard_by_default(build: Any) -> None:
    """As the command line does; whoever reports elsewhere, or wants none, has that."""

    def logs(**more: Any) -> bool:
        callbacks = build(**more).callback_handler.callbacks
        return any(isinstance(callback, TensorBoardCallback) for callback in callbacks)

    assert inspect.signature(SuperNetworkMixin.__init__).parameters["tensorboard"].default is True
    assert logs(tensorboard=True)
    assert not logs(tensorboard=False)
    trainer = build(tensorboard=True)
    trainer.train()
    assert list(Path(trainer.args.output_dir).rglob("events.out.tfevents.*"))
