from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import DataCollatorWithPadding

from instatune_deploy.config import FinetuneSettings
from instatune_deploy.errors import UserError
from instatune_deploy.finetune.batches import GroupedByLength
from instatune_deploy.finetune.ordinary import finetune_ordinary
from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.supernet.network import SuperNetwork

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def train(model: Any, rows: Any, tokenizer: Any, folder: Path, **settings: Any) -> Any:
    chosen = FinetuneSettings(**{"batch_size": 8, "max_steps": 5, "learning_rate": 1e-3, "checkpoint_steps": 2, **settings})
    return finetune_ordinary(model, chosen, rows, DataCollatorWithPadding(tokenizer), folder, 0, False, lambda *_: None)


def test_is_adamw_on_the_mean_loss(make_model: Any, rows: Any, tiny_tokenizer: Any, tmp_path: Path) -> None:
    """Against a loop of plain torch over the same batches."""
    model, plain = make_model(**NO_DROPOUT), make_model(**NO_DROPOUT).train()
    settings = {"warmup_ratio": 0.0, "weight_decay": 0.0, "max_grad_norm": 0.5}
    train(model, rows, tiny_tokenizer, tmp_path, **settings)
    optimizer = torch.optim.AdamW(plain.parameters(), lr=1e-3, weight_decay=0)
    order = list(GroupedByLength(rows, 8, seed=0))
    for step in range(5):
        optimizer.param_groups[0]["lr"] = 1e-3 * (1 - step / 5)
        batch = DataCollatorWithPadding(tiny_tokenizer)([rows[index] for index in order[8 * step : 8 * step + 8]])
        plain(**batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
    for name, value in plain.state_dict().items():
        if name.endswith("key.bias"):  # softmax does not see it: its gradient is rounding alone, which AdamW scales up
            continue
        torch.testing.assert_close(model.state_dict()[name], value, rtol=1e-3, atol=1e-4)
    assert not model.training


def test_an_extracted_network_and_going_on(make_model: Any, rows: Any, tiny_tokenizer: Any, tmp_path: Path) -> None:
    def small() -> Any:
        return SuperNetwork(make_model()).extract(Architecture((0, 3), (1, 3), (16, 40)))

    whole, stopped, before = small(), small(), small()
    log = train(whole, rows, tiny_tokenizer, tmp_path / "whole", max_steps=10)
    assert [entry["step"] for entry in log] == [10]
    train(stopped, rows, tiny_tokenizer, tmp_path / "stopped", max_steps=10)
    checkpoint = tmp_path / "stopped" / "checkpoint-10"
    assert checkpoint.is_dir()
    # from the one before the last
    again = small()
    for path in checkpoint.iterdir():
        path.unlink()
    train(again, rows, tiny_tokenizer, tmp_path / "stopped", max_steps=10)
    for name, value in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
        assert torch.equal(stopped.state_dict()[name], value)
    assert not torch.equal(whole.classifier.weight, before.classifier.weight)


def test_accumulated_batches_are_one_large_batch(make_model: Any, rows: Any, tiny_tokenizer: Any, tmp_path: Path) -> None:
    once, twice = make_model(**NO_DROPOUT), make_model(**NO_DROPOUT)
    logs = [
        train(once, rows[:28], tiny_tokenizer, tmp_path / "1", batch_size=16, max_steps=10),
        train(twice, rows[:28], tiny_tokenizer, tmp_path / "2", batch_size=8, gradient_accumulation_steps=2, max_steps=10),
    ]
    assert logs[0][0]["loss"] == pytest.approx(logs[1][0]["loss"], rel=1e-3)
    torch.testing.assert_close(twice.classifier.weight, once.classifier.weight, rtol=1e-2, atol=1e-3)


def test_a_loss_that_is_no_number(make_model: Any, rows: Any, tiny_tokenizer: Any, tmp_path: Path) -> None:
    model = make_model()
    with torch.no_grad():
        model.classifier.bias[0] = float("nan")
    with pytest.raises(UserError, match="the loss is no longer a number at step 1: lower the learning rate"):
        train(model, rows, tiny_tokenizer, tmp_path)
