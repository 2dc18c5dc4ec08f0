from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import DataCollatorWithPadding, TrainerCallback

from instatune_deploy.config import FinetuneSettings
from instatune_deploy.finetune.ordinary import finetune_ordinary

from .conftest import Rows, recipe

TOKENS = torch.arange(9)[None] + 7


def watch(linear: torch.nn.Module) -> set[torch.dtype]:
    """What ``linear`` will have computed in."""
    seen: set[torch.dtype] = set()
    linear.register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
    return seen


def first(model: Any) -> Any:
    return model.bert.encoder.layer[0].intermediate.dense


def assert_ordinary(model: Any) -> None:
    """Computes in float32, with the forward pass of its class."""
    seen = watch(first(model))
    assert model(input_ids=TOKENS).logits.dtype == torch.float32
    assert seen == {torch.float32}
    assert not {"forward", "_original_forward", "_is_accelerate_prepared"} & set(model.__dict__)


def test_after_a_bf16_training_everything_is_float32(build: Any) -> None:
    trainer = build(args={"bf16": True, "max_steps": 1})
    seen = watch(first(trainer.model))
    trainer.train()
    assert seen == {torch.bfloat16}
    seen.clear()
    small = trainer.supernetwork.extract(trainer.space.largest())
    assert_ordinary(trainer.model)
    assert_ordinary(small)
    with torch.no_grad():
        assert torch.equal(small(input_ids=TOKENS).logits, trainer.model.eval()(input_ids=TOKENS).logits)
    seen.clear()
    assert trainer.evaluate()["eval_loss"] >= 0
    assert trainer.predict(trainer.eval_dataset).predictions.shape == (32, 2)
    assert seen == {torch.float32}
    seen.clear()
    trainer.train()  # again: in bf16 as before
    assert seen == {torch.bfloat16}
    assert_ordinary(trainer.model)


def test_after_an_evaluation_alone(build: Any) -> None:
    trainer = build(args={"bf16": True})
    trainer.evaluate()
    assert_ordinary(trainer.model)


def test_sub_networks_are_evaluated_in_float32_in_the_middle_of_a_training(build: Any) -> None:
    class Looking(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            seen.clear()
            trainer.evaluate_architectures([trainer.space.smallest()])
            found.append(set(seen))
            seen.clear()

    found: list[set[torch.dtype]] = []
    trainer = build(args={"bf16": True, "max_steps": 2}, settings=recipe(importance_rows=0), callbacks=[Looking()])
    seen = watch(trainer.model.classifier)
    steps = []
    trainer.model.register_forward_pre_hook(lambda *_: steps.append(trainer.model.training))
    trainer.train()
    assert found == [{torch.float32}] * 2
    assert steps.count(True) == 4  # the full network and one sub-network of each step: training goes on


def test_an_ordinary_training(make_model: Any, rows: Rows, tiny_tokenizer: Any, tmp_path: Path) -> None:
    model = make_model()
    seen = watch(first(model))
    settings = FinetuneSettings(max_steps=1, batch_size=8)
    finetune_ordinary(model, settings, rows, DataCollatorWithPadding(tiny_tokenizer), tmp_path, 0, True, lambda *_: None)
    assert seen == {torch.bfloat16}
    assert_ordinary(model)
