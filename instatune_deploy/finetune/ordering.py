"""Order heads and neurons by importance before, or in the middle of, a training; the rows that tell what is important."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from itertools import chain, islice
from typing import Any

import numpy as np
import torch

from instatune_deploy.finetune.common import Inputs
from instatune_deploy.supernet.network import SuperNetwork

MOST_ALONE = 0.2
"""Share of a training cut short in which the full network may train alone."""


def ordering_step(full_epochs: float, steps_per_epoch: float, steps: int, cut_short: bool) -> int:
    """The first step with sub-networks, before which heads and neurons are ordered.

    steps: of the whole training; cut_short: whether it ends there, whatever the epochs say. Then the full network has at
    most a fifth of it alone, as it has with the defaults, and there always is a step with sub-networks.
    """
    wanted = math.ceil(full_epochs * steps_per_epoch - 1e-9)
    return max(0, min(wanted, int(steps * MOST_ALONE) if cut_short else steps - 1))


def batches_for_importance(
    dataset: Any, collate: Callable[[list[Any]], Any], count: int, batch_size: int, seed: int
) -> list[Inputs]:
    """``count`` rows, drawn (the first ones of a data set may all have one label), in batches."""
    if not isinstance(dataset, Sized):
        return list(like_length_batches(islice(dataset, count), collate, batch_size))
    chosen = np.random.default_rng(seed).permutation(len(dataset))[:count]
    return list(like_length_batches((dataset[int(index)] for index in chosen), collate, batch_size))  # type: ignore[index]


def like_length_batches(rows: Iterable[Any], collate: Callable[[list[Any]], Any], batch_size: int) -> Iterator[Inputs]:
    """Rows of like length together: padding is what most of the time would go to.

    Rows without ``input_ids`` stay in their order and are not held in memory all at once: they may be images.
    """
    rest = iter(rows)
    first = list(islice(rest, 1))
    rest = chain(first, rest)
    if first and "input_ids" in first[0]:
        rest = iter(sorted(rest, key=lambda row: len(row["input_ids"])))
    while part := list(islice(rest, batch_size)):
        yield dict(collate(part))


@torch.no_grad()
def reorder(network: SuperNetwork, orders: Sequence[tuple[list[int], list[int]]], optimizer: Any = None) -> None:
    """Put heads and neurons of every layer into the given orders, and with them what the optimizer remembers of them.

    orders: of each layer, heads and neurons, most important first
    """

    def apply() -> None:
        for layer, (heads, neurons) in enumerate(orders):
            network.reorder(layer, heads, neurons)

    apply()
    parameters = list(network.parameters())
    state = {} if optimizer is None else optimizer.state
    for name in sorted(_moments(parameters, state)):
        # a moment is permuted as its parameter is: it takes its place for a moment
        weights = [parameter.data for parameter in parameters]
        try:
            for parameter in parameters:
                moment = state.get(parameter, {}).get(name)
                parameter.data = torch.zeros_like(parameter) if moment is None else moment
            apply()
        finally:
            for parameter, weight in zip(parameters, weights, strict=True):
                parameter.data = weight


def _moments(parameters: Iterable[torch.nn.Parameter], state: Any) -> set[str]:
    """Names of what an optimizer keeps for every single weight."""
    return {
        name
        for parameter in parameters
        for name, value in state.get(parameter, {}).items()
        if isinstance(value, torch.Tensor) and value.shape == parameter.shape and value.dim() > 0
    }
