"""A network of two small layers, and six rows of different length."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from instatune_deploy.supernet.network import SuperNetwork

ROWS, TOKENS, HEADS, HEAD_SIZE, WIDTH = 6, 8, 4, 8, 12


@pytest.fixture
def make_network(make_model: Callable[..., Any]) -> Callable[..., SuperNetwork]:
    """Two layers of four heads and twelve neurons."""
    return lambda: SuperNetwork(make_model(num_hidden_layers=2, intermediate_size=WIDTH))


def batch(start: int = 0, stop: int = ROWS) -> dict[str, torch.Tensor]:
    """Some of the six rows."""
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(5, 90, (ROWS, TOKENS), generator=generator)
    lengths = torch.tensor([[8], [3], [5], [8], [2], [6]])
    mask = (torch.arange(TOKENS) < lengths).long()
    labels = torch.tensor([0, 1, 1, 0, 1, 0])
    return {"input_ids": ids[start:stop], "attention_mask": mask[start:stop], "labels": labels[start:stop]}


def logits(model: torch.nn.Module, rows: dict[str, torch.Tensor] | None = None) -> torch.Tensor:
    """Of all six rows, or of others."""
    with torch.no_grad():
        return model(**(rows or batch())).logits
