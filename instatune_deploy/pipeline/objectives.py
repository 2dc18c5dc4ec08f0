"""What a search can be about: figures of a measured deployment, each to be minimised, and what a budget says of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from instatune_deploy.budget import Budget
from instatune_deploy.config import ObjectiveName, Statistic
from instatune_deploy.pipeline.bench import Point

DEFAULT: tuple[ObjectiveName, ...] = ("latency", "accuracy")


@dataclass(frozen=True)
class Objective:
    """One figure, to be minimised.

    of:    what a point was measured at; None where the host does not tell it
    limit: what a budget allows of it; None: anything
    """

    of: Callable[[Point, Statistic], float | None]
    limit: Callable[[Budget], float | None]


OBJECTIVES: dict[ObjectiveName, Objective] = {
    "latency": Objective(lambda point, statistic: latency_ms(point, statistic), lambda budget: budget.limit_ms),
    "size": Objective(lambda point, _: point.measurement.size_bytes, lambda budget: budget.size_bytes),
    "macs": Objective(lambda point, _: point.macs, lambda budget: budget.macs),
    "memory": Objective(lambda point, _: point.measurement.memory_bytes, lambda budget: budget.memory_bytes),
    "energy": Objective(lambda point, _: point.measurement.energy_mj, lambda budget: None),
    "accuracy": Objective(
        lambda point, _: 1 - point.accuracy, lambda budget: None if budget.accuracy is None else 1 - budget.accuracy
    ),
}
"""In ms, bytes, MACs of one input, bytes, mJ of one inference, and the share that is wrong."""


def in_order(names: Sequence[ObjectiveName]) -> tuple[ObjectiveName, ...]:
    """As the registry has them, accuracy last: what a search is asked for in the end, unless that is limited."""
    return tuple(name for name in OBJECTIVES if name in names)


def chosen_by(budget: Budget | None, names: Sequence[ObjectiveName]) -> ObjectiveName:
    """The objective by which one is chosen among what keeps a budget: accuracy, unless the budget says how accurate it must be;
    then the first of the others."""
    if "accuracy" in names and (budget is None or budget.accuracy is None):
        return "accuracy"
    return next(name for name in names if name != "accuracy")


def objectives(points: Sequence[Point], statistic: Statistic, names: Sequence[ObjectiveName] = DEFAULT) -> np.ndarray:
    """(n, m) in the units of `OBJECTIVES`; NaN where the host did not tell."""
    rows = [[OBJECTIVES[name].of(point, statistic) for name in names] for point in points]
    return np.array(rows, dtype=float).reshape(-1, len(names))


def limits(budget: Budget | None, names: Sequence[ObjectiveName] = DEFAULT) -> np.ndarray:
    """(m,) what the budget allows of each; infinity where it allows anything."""
    found = [OBJECTIVES[name].limit(budget or Budget()) for name in names]
    return np.array([np.inf if limit is None else limit for limit in found])


def latency_ms(point: Point, statistic: Statistic) -> float:
    """Measured latency of a point."""
    assert point.measurement.timing is not None
    return point.measurement.timing.statistic_ms(statistic)
