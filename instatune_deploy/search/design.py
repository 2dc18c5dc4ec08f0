"""The first things to measure: spread over cost, extremes included.

Uniform choices would crowd in the middle: a sum of many independent choices is nearly normal, and its ends are starved.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from instatune_deploy.search.base import Space, rows

DRAWN = 4000
LEANING = 8.0
"""Exponent of the uniform numbers at the thin end, and its inverse at the fat end."""


def spread_over_cost(
    space: Space,
    cost: Callable[[np.ndarray], np.ndarray],
    count: int,
    rng: np.random.Generator,
    include: np.ndarray,
    prefer: np.ndarray,
) -> np.ndarray:
    """``count`` different vectors, (count, genes), evenly spaced in ``cost``.

    include: (k, genes), taken in any case; prefer: (k, genes), candidates beside the ``DRAWN`` random ones. Fewer come back
    only when the space has fewer.
    """
    # thin and fat vectors are rare among uniform draws: each leans to one side, so that every cost has its candidates
    leaning = LEANING ** rng.uniform(-1, 1, (DRAWN, 1))
    drawn = np.floor(rng.random((DRAWN, len(space.choices))) ** leaning * space.choices).astype(np.int64)
    candidates = np.unique(space.canonical(np.concatenate([prefer, drawn])), axis=0)
    chosen = list(dict.fromkeys(rows(space.canonical(include))))[:count]
    known = set(chosen)
    costs = cost(candidates)
    free = np.array([row not in known for row in rows(candidates)])
    for target in np.linspace(costs.min(), costs.max(), count):
        if len(chosen) >= count or not free.any():
            break
        taken = cost(np.array(chosen))
        # a target that something chosen already stands for is left to later, wider gaps
        if np.abs(taken - target).min() < np.ptp(costs) / (2 * count):
            continue
        _take(candidates, costs, target, free, chosen)
    while len(chosen) < count and free.any():
        _take(candidates, costs, _widest_gap(cost(np.array(chosen))), free, chosen)
    return np.array(chosen)


def _take(candidates: np.ndarray, costs: np.ndarray, target: float, free: np.ndarray, chosen: list[tuple[int, ...]]) -> None:
    index = int(np.argmin(np.where(free, np.abs(costs - target), np.inf)))
    free[index] = False
    chosen.append(tuple(candidates[index].tolist()))


def _widest_gap(costs: np.ndarray) -> float:
    """The middle of the widest gap between neighbours."""
    ordered = np.sort(costs)
    if len(ordered) < 2:
        return float(ordered[0])
    index = int(np.argmax(np.diff(ordered)))
    return float((ordered[index] + ordered[index + 1]) / 2)
