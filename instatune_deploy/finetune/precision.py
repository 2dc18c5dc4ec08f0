"""In which precision a model computes: Accelerate's bf16 wrapper around its forward pass, taken off and put back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

_FORWARD, _ORIGINAL = "forward", "_original_forward"
"""What Accelerate writes into a model: its wrapper, and what that wraps."""
_WRITTEN = (_FORWARD, _ORIGINAL, "_is_accelerate_prepared")
"""With the mark, without which it puts the wrapper on again before another training."""


@contextmanager
def forward_put_back(model: nn.Module) -> Iterator[None]:
    """Afterwards ``model`` has the forward pass that it had: a wrapper put on inside is gone."""
    before = {name: model.__dict__[name] for name in _WRITTEN if name in model.__dict__}
    try:
        yield
    finally:
        for name in _WRITTEN:
            model.__dict__.pop(name, None)
        model.__dict__.update(before)


@contextmanager
def own_precision(model: nn.Module) -> Iterator[None]:
    """Inside, ``model`` computes in the precision of its weights, also in the middle of a bf16 training."""
    with forward_put_back(model):
        if _ORIGINAL in model.__dict__:
            model.__dict__[_FORWARD] = model.__dict__.pop(_ORIGINAL)
        yield
