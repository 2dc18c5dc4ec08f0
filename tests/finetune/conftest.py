"""A tiny network, rows it can learn, and trainers of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from instatune_deploy.config import FinetuneSettings
from instatune_deploy.supernet.load import load_pretrained
from instatune_deploy.supernet.network import SuperNetwork
from instatune_deploy.supernet.space import SearchSpace
from instatune_deploy.tasks.text_inputs import tokenize

LABELS = ["negative", "positive"]
Rows = list[dict[str, Any]]
PAPER = {"sampler": "alternating", "full_epochs": 0.0, "correct_prefixes": False, "dropout": "model", "importance": "taylor"}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def recipe(**changes: Any) -> FinetuneSettings:
    """Said in full: what is asserted does not follow the defaults."""
    return FinetuneSettings.model_validate({**PAPER, **changes})


@pytest.fixture(scope="session")
def make_network(tiny_checkpoint: Path) -> Callable[[], SuperNetwork]:
    """The super-network of `tiny_checkpoint`, the same every time."""
    return lambda: SuperNetwork(load_pretrained(tiny_checkpoint, LABELS, seed=0))


@pytest.fixture(scope="session")
def rows(tiny_rows: list[tuple[str, str]], tiny_tokenizer: Any) -> list[dict[str, Any]]:
    """Tokenised sentences of different lengths with their labels."""
    tokens = tokenize([text for text, _ in tiny_rows], tiny_tokenizer, 40)
    return [
        {name: values[index] for name, values in tokens.items()} | {"labels": LABELS.index(label)}
        for index, (_, label) in enumerate(tiny_rows)
    ]


@pytest.fixture(scope="session")
def train(
    make_network: Callable[[], SuperNetwork], rows: list[dict[str, Any]], tiny_space: SearchSpace, tiny_tokenizer: Any
) -> Callable[..., tuple[SuperNetwork, list[dict[str, float]]]]:
    """Fine-tune a new network with checkpoints in ``folder``; gives the network and the log."""
    from transformers import DataCollatorWithPadding

    from instatune_deploy.finetune.trainer import finetune

    collate = DataCollatorWithPadding(tiny_tokenizer)

    def run(
        folder: Path,
        report: Callable[[int, int, float], None] = lambda done, total, loss: None,
        network: SuperNetwork | None = None,
        count: int | None = None,
        seed: int = 0,
        bf16: bool = False,
        **settings: Any,
    ) -> tuple[SuperNetwork, list[dict[str, float]]]:
        network = network or make_network()
        defaults = {"batch_size": 8, "learning_rate": 2e-3, "checkpoint_steps": 4}
        chosen = FinetuneSettings(**{**defaults, **settings})
        return network, finetune(network, tiny_space, chosen, rows[:count], collate, folder, seed, bf16, report)

    return run


@pytest.fixture
def build(make_model: Callable[..., Any], rows: Rows, tiny_space: SearchSpace, tiny_tokenizer: Any, tmp_path: Path) -> Any:
    """A trainer of a new model without dropout; arguments of `SuperNetworkTrainer`, the Trainer's arguments as ``args``."""
    from transformers import DataCollatorWithPadding, TrainingArguments

    from instatune_deploy.finetune.mixin import SuperNetworkTrainer

    def make(kind: type | None = None, args: dict[str, Any] | None = None, **named: Any) -> Any:
        defaults = {"per_device_train_batch_size": 8, "max_steps": 3, "optim": "sgd", "lr_scheduler_type": "constant"}
        defaults |= {"learning_rate": 0.02, "logging_steps": 1, "disable_tqdm": True, "use_cpu": True, "save_strategy": "no"}
        chosen = {**defaults, **(args or {})}
        arguments = TrainingArguments(output_dir=str(tmp_path / "out"), **chosen)
        named.setdefault("space", tiny_space)
        named.setdefault("tensorboard", False)
        named.setdefault("settings", recipe(importance_rows=0))
        model = named.pop("model", None) or make_model(**NO_DROPOUT)
        return (kind or SuperNetworkTrainer)(
            model=model,
            args=arguments,
            train_dataset=named.pop("train_dataset", rows),
            eval_dataset=named.pop("eval_dataset", rows[:32]),
            data_collator=DataCollatorWithPadding(tiny_tokenizer),
            **named,
        )

    return make
