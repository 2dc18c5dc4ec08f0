"""Two ways through one network: tokens of an image take one, those of a text the other."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

VISION, LANGUAGE = "A", "B"
"""The ways, by the names that BEiT-3's checkpoints have for them."""

Streams = dict[str, torch.Tensor]
"""Tokens by the way they take, (batch, tokens, width) each; of an image first. A way that no token takes is not in it."""


class Multiway(nn.ModuleDict):
    """Modules that are alike, with weights of their own for each way."""

    def __init__(self, make: Callable[[], nn.Module], ways: tuple[str, ...]) -> None:
        super().__init__({way: make() for way in ways})

    def forward(self, streams: Streams) -> Streams:
        """Each stream through the module of its way."""
        return {way: self[way](hidden) for way, hidden in streams.items()}


def joined(streams: Streams) -> torch.Tensor:
    """All tokens, (batch, tokens, width), those of the image first."""
    hidden = list(streams.values())
    return hidden[0] if len(hidden) == 1 else torch.cat(hidden, dim=1)


def parted(hidden: torch.Tensor, lengths: dict[str, int]) -> Streams:
    """What `joined` has joined. hidden: (batch, tokens, width); lengths: tokens of each way"""
    if len(lengths) == 1:
        return dict.fromkeys(lengths, hidden)
    return dict(zip(lengths, hidden.split(list(lengths.values()), dim=1), strict=True))


def lengths_of(streams: Streams) -> dict[str, int]:
    """Tokens of each way."""
    return {way: hidden.shape[1] for way, hidden in streams.items()}
