"""The registry of search strategies: a new one is one file here and one line below."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from instatune_deploy.config import SearchSettings
from instatune_deploy.search.base import Constraints, Fit, Space
from instatune_deploy.search.evolution import Evolution
from instatune_deploy.search.exhaustive import Exhaustive, check_size
from instatune_deploy.search.linas import Linas
from instatune_deploy.search.random import Random
from instatune_deploy.search.rounds import Strategy


@dataclass(frozen=True)
class Search:
    """What a strategy is made from.

    first:  (k, genes), measured before anything else
    limits: (m,), what each objective may be at most; infinity where it may be anything
    fit:    makes the predictors; strategies that predict nothing never call it
    also:   what else must be kept, and needs no measuring
    asked:  index of the objective that the choice is made by
    shapes: (n, genes), where an evolutionary search on predictors begins beside the front that is known
    """

    space: Space
    first: np.ndarray
    limits: np.ndarray
    fit: Fit
    settings: SearchSettings
    seed: int
    also: Constraints | None = None
    asked: int = -1
    shapes: np.ndarray | None = None


def linas(search: Search) -> Strategy:
    """Predictors, NSGA-II on them, and what they expect most of."""
    settings = search.settings
    return Linas(
        search.space,
        search.fit,
        search.first,
        search.limits,
        search.also,
        rounds=settings.rounds,
        per_round=settings.per_round,
        stop_gain=settings.stop_gain,
        population=settings.population,
        generations=settings.generations,
        seed=search.seed,
        asked=search.asked,
        shapes=search.shapes,
    )


def nsga2(search: Search) -> Strategy:
    """NSGA-II on measurements."""
    settings = search.settings
    made_from = search.space, search.first, search.limits, search.also
    return Evolution(*made_from, rounds=settings.rounds, per_round=settings.per_round, seed=search.seed)


def random(search: Search) -> Strategy:
    """Anything."""
    settings = search.settings
    made_from = search.space, search.first, search.limits, search.also
    return Random(*made_from, rounds=settings.rounds, per_round=settings.per_round, seed=search.seed)


def exhaustive(search: Search) -> Strategy:
    """Everything."""
    return Exhaustive(search.space, search.first, search.limits, search.also, per_round=search.settings.per_round)


def check_strategy(name: str, space: Space, runs: int = 1) -> None:
    """``BadInput`` for a strategy that cannot search ``space``, before anything is trained for it. runs: as in `check_size`"""
    if name == "exhaustive":
        check_size(space, runs)


STRATEGIES: dict[str, Callable[[Search], Strategy]] = {
    "linas": linas,
    "nsga2": nsga2,
    "random": random,
    "exhaustive": exhaustive,
}
