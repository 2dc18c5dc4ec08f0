"""Which implementation of attention a model trains with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import PreTrainedModel


@contextmanager
def attention_to_train_with(model: PreTrainedModel, device: torch.device) -> Iterator[None]:
    """On a CPU plain matrix products, whose backward pass is faster than that of the fused kernel; elsewhere what it has.

    The numbers agree to float precision. Afterwards the model has what it had.
    """
    before = model.config._attn_implementation
    if device.type != "cpu" or before != "sdpa":
        yield
        return
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)
