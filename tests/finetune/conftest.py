"""A tiny network, and rows it can learn."""

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
    from instatune_deploy.finetune.trainer import finetune

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
        return network, finetune(network, tiny_space, chosen, rows[:count], tiny_tokenizer, folder, seed, bf16, report)

    return run
