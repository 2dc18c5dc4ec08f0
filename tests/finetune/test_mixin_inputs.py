"""What `SuperNetworkMixin` refuses, in one line each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel, AutoModelForQuestionAnswering, TrainingArguments

from instatune_deploy.config import SpaceSettings
from instatune_deploy.errors import BadInput
from instatune_deploy.finetune.checks import check_recipe
from instatune_deploy.finetune.mixin import SuperNetworkTrainer
from instatune_deploy.supernet.network import SuperNetwork
from instatune_deploy.supernet.space import SearchSpace

from .conftest import Rows, recipe


def test_one_gpu_of_several(tiny_model: Any, rows: Rows, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    assert arguments.n_gpu <= 1
    arguments._n_gpu = 2
    trainer = SuperNetworkTrainer(tiny_model, arguments, train_dataset=rows)
    assert trainer.args.n_gpu == 1
    assert "one GPU is used; for several start with torchrun" in caplog.text


def test_no_model(tiny_space: SearchSpace) -> None:
    with pytest.raises(BadInput, match="needs a model"):
        SuperNetworkTrainer(space=tiny_space)


def test_spaces_that_do_not_fit(build: Any, tiny_space: SearchSpace) -> None:
    with pytest.raises(BadInput, match="space 'huge' is not known; known are: paper, wide"):
        build(space="huge")
    with pytest.raises(BadInput, match=r"^space: a SearchSpace, the settings of one or the name of a preset, not None$"):
        build(space=None)
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


def test_labels_of_a_stream_are_checked_before_importance_is_computed(build: Any, rows: Rows) -> None:
    trainer = build(train_dataset=Stream([{**rows[0], "labels": 7}, *rows[:40]]), settings=recipe(importance_rows=8))
    with pytest.raises(BadInput, match="label 7"):
        trainer.order_by_importance()


def test_models_without_classes(build: Any, make_config: Any, make_model: Any, rows: Rows) -> None:
    with pytest.raises(BadInput, match=r"^super-network: BertModel has no head for a task; load it as AutoModelForSequence"):
        build(model=AutoModel.from_config(make_config()))
    with pytest.raises(BadInput, match=r"^the model has one label \(a regression\): distillation needs at least two classes$"):
        build(model=make_model(num_labels=1))
    with pytest.raises(BadInput, match=r"^the model has several labels a row"):
        build(model=make_model(problem_type="multi_label_classification"))
    answers = [{**row, "start_positions": 1, "end_positions": 2} for row in rows]
    for row in answers:
        del row["labels"]
    trainer = build(model=AutoModelForQuestionAnswering.from_config(make_config()), train_dataset=answers)
    with pytest.raises(BadInput, match=r"learns from 'logits' of its model's outputs: QuestionAnsweringModelOutput has none$"):
        trainer.train()


def test_teachers(build: Any, tiny_model: Any) -> None:
    for teacher in (tiny_model, SuperNetwork(tiny_model)):
        with pytest.raises(BadInput, match=r"^a teacher must be another model: this one has the weights of the model"):
            build(model=tiny_model, teacher=teacher)
    with pytest.raises(BadInput, match=r"^teacher: 'train' is for pipeline files: give a checkpoint folder or a model$"):
        build(settings=recipe(teacher="train"))


def test_gradient_checkpointing(build: Any, tiny_model: Any) -> None:
    with pytest.raises(BadInput, match=r"^gradient checkpointing would recompute another sub-network .*: switch it off$"):
        build(args={"gradient_checkpointing": True})
    tiny_model.gradient_checkpointing_enable()
    with pytest.raises(BadInput, match="switch it off"):
        build(model=tiny_model)


def test_what_compiles_or_splits_the_model(build: Any, tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match=r"^torch_compile would compile every sub-network anew: switch it off$"):
        build(args={"torch_compile": True})
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    for name, value in (("fsdp", ["full_shard"]), ("deepspeed", {"zero_optimization": {}})):
        setattr(arguments, name, value)  # they need several processes to be set when the arguments are made
        with pytest.raises(BadInput, match=f"^{name} splits the weights that sub-networks are views of: start several"):
            check_recipe(tiny_model, arguments, recipe())
        setattr(arguments, name, None)
        with monkeypatch.context() as patch:  # as accelerate's launcher says it
            patch.setenv(f"ACCELERATE_USE_{name.upper()}", "true")
            with pytest.raises(BadInput, match=f"^{name} splits the weights"):
                check_recipe(tiny_model, arguments, recipe())


def test_layers_by_importance_without_rows(build: Any) -> None:
    with pytest.raises(BadInput, match=r"^rows of data are needed to see what heads, neurons and layers are worth"):
        build(space=SpaceSettings(preset="wide", keep_layers="importance"), settings=recipe(importance_rows=0))


def test_the_full_network_alone_for_the_whole_training(build: Any) -> None:
    settings = recipe(full_epochs=1.0)
    with pytest.raises(BadInput, match=r"^full_epochs \(1\) must be less than the training's 1 epochs, or no sub-network"):
        build(args={"max_steps": -1, "num_train_epochs": 1}, settings=settings)
    build(args={"max_steps": 1, "num_train_epochs": 1}, settings=settings)


def test_held_out_rows(build: Any, rows: Rows) -> None:
    trainer = build(eval_dataset=None)
    with pytest.raises(BadInput, match=r"^evaluate_architectures needs an eval_dataset"):
        trainer.evaluate_architectures([trainer.space.smallest()])
    with pytest.raises(BadInput, match=r"^sampler 'alternating' needs an eval_dataset: it looks at held-out rows$"):
        trainer.held_out_loss(trainer.space.smallest())
    unlabelled = [{name: value for name, value in row.items() if name != "labels"} for row in rows]
    with pytest.raises(BadInput, match=r"^evaluate_architectures needs rows with one class as label"):
        trainer.evaluate_architectures([trainer.space.smallest()], unlabelled)
    ignored = [{**row, "labels": -100} for row in rows]
    with pytest.raises(BadInput, match=r"^evaluate_architectures needs labels: the rows have none$"):
        trainer.evaluate_architectures([trainer.space.smallest()], ignored)
