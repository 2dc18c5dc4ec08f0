"""A super-network that sees: `SuperNetworkTrainer` on images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainingArguments, default_data_collator

from instatune_deploy.config import SpaceSettings
from instatune_deploy.finetune.mixin import SuperNetworkTrainer
from instatune_deploy.supernet.architecture import Architecture

from .conftest import recipe

SMALL = Architecture((1, 3), (2, 0), (0, 32))


def images(count: int) -> list[dict[str, Any]]:
    """Noise of 16 x 12 pixels, half of it brighter on the left: label 1."""
    generator = torch.Generator().manual_seed(0)
    rows = []
    for number in range(count):
        pixels = torch.randn((3, 16, 12), generator=generator)
        pixels[:, :, :6] += 1.5 * (number % 2)
        rows.append({"pixel_values": pixels, "labels": number % 2})
    return rows


def test_sizes_of_images_are_sampled(make_model: Callable[..., Any], tmp_path: Path) -> None:
    """Every size is a sub-network's in some step, and costs are those of its tokens: 17 and 5."""
    rows = [{"pixel_values": torch.randn(3, 16, 16), "labels": index % 2} for index in range(16)]
    arguments = TrainingArguments(output_dir=str(tmp_path), max_steps=12, save_strategy="no", disable_tqdm=True, use_cpu=True)
    trainer = SuperNetworkTrainer(
        make_model("vit", image_size=16),
        arguments,
        train_dataset=rows,
        data_collator=default_data_collator,
        space=SpaceSettings(depths=[3], image_sizes=[8]),
        settings=recipe(importance_rows=0, full_epochs=0.0),
        tensorboard=False,
    )
    seen = set()
    drawn = trainer.sub_networks
    trainer.sub_networks = lambda: [seen.add(item.image_size) or item for item in drawn()]  # type: ignore[method-assign]
    trainer.train()
    assert seen == {8, 16}
    full = trainer.space.largest()
    assert full == replace(trainer.supernetwork.shape.full(), image_size=16)
    small = trainer.space.encode(replace(full, image_size=8))[None]
    # hidden 32, 4 layers of 4 heads of 8 and MLPs of 64, patches of 4 x 4 x 3 values
    macs = {
        tokens: 4 * (4 * tokens * 32 * 32 + 2 * tokens**2 * 32 + 2 * tokens * 32 * 64) + 32 * 48 * (tokens - 1)
        for tokens in (5, 17)
    }
    assert trainer.cost(small)[0] == pytest.approx(macs[5] / macs[17])


@pytest.mark.parametrize("model_type", ["vit", "deit"])
@pytest.mark.parametrize("importance", ["fisher", "second-order"])
def test_images_are_learned_by_all_sizes(
    make_config: Callable[..., Any], tmp_path: Path, model_type: str, importance: str
) -> None:
    from instatune_deploy.supernet.load import model_from_config

    torch.manual_seed(0)
    rows = images(160)
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        per_device_train_batch_size=16,
        num_train_epochs=6,
        learning_rate=3e-3,
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
    )
    trainer = SuperNetworkTrainer(
        model_from_config(make_config(model_type)),
        arguments,
        train_dataset=rows[:128],
        eval_dataset=rows[128:],
        data_collator=default_data_collator,
        space="wide",
        settings=recipe(importance=importance, importance_rows=32, full_epochs=1.0, sampler="sandwich"),
        tensorboard=False,
    )
    trainer.train()
    full = trainer.space.largest()
    accuracies = trainer.evaluate_architectures([full, SMALL])
    assert accuracies[full] > 0.9
    small = trainer.supernetwork.extract(SMALL)
    pixels = torch.stack([row["pixel_values"] for row in rows[128:]])
    with torch.no_grad():
        right = (small(pixels).logits.argmax(dim=1) == torch.tensor([row["labels"] for row in rows[128:]])).float().mean()
    assert float(right) == pytest.approx(accuracies[SMALL])
