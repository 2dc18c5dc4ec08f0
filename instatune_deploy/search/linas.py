"""The loop around NSGA-II: measure, learn, search the predictors, measure what they promise, until the front stands still.

After LINAS (arXiv 2205.10358): one predictor per objective, an evolutionary search on the predictors, and only the best of what
is not yet known is measured.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from instatune_deploy.search.base import Constraints, Objectives, Space, rows
from instatune_deploy.search.nsga2 import optimise
from instatune_deploy.search.pareto import front, hypervolume

Fit = Callable[[np.ndarray, np.ndarray], Objectives]
"""(n, genes) and their measured objectives, (n, m) -> predicted objectives of anything."""


class Linas:
    """`ask` for what to measure next, `tell` what came out, until `ask` gives nothing.

    first:     (k, genes), measured before anything is predicted
    limits:    (m,), what each objective may be at most; infinity where it may be anything
    rounds:    how often the predictors propose; per_round: how many each time
    stop_gain: a round that adds less than this share to the front's hypervolume is the last
    """

    def __init__(
        self,
        space: Space,
        fit: Fit,
        first: np.ndarray,
        limits: np.ndarray,
        *,
        rounds: int,
        per_round: int,
        stop_gain: float,
        population: int,
        generations: int,
        seed: int,
    ) -> None:
        self.space, self.fit, self.limits, self.seed = space, fit, limits, seed
        self.rounds, self.per_round, self.stop_gain = rounds, per_round, stop_gain
        self.population, self.generations = population, generations
        self.measured = np.empty((0, len(space.choices)), dtype=np.int64)
        self.objectives = np.empty((0, len(limits)))
        self.known: set[tuple[int, ...]] = set()
        self.volumes: list[float] = []
        """Hypervolume of the measured front after every round; set by `tell`."""
        self._next: np.ndarray | None = space.canonical(first)
        self._reference: np.ndarray | None = None

    def ask(self) -> np.ndarray | None:
        """(n, genes), none of it asked before; None when the search is over."""
        asked = self._propose() if self._next is None else self._next
        self._next = None
        fresh = [row for row in dict.fromkeys(rows(asked)) if row not in self.known]
        if not fresh:
            return None
        self.known.update(fresh)
        return np.array(fresh)

    def tell(self, measured: np.ndarray, objectives: np.ndarray) -> None:
        """What was measured of the last `ask`, (n, genes) and (n, m). What could not be measured is left out."""
        self.measured = np.concatenate([self.measured, measured])
        self.objectives = np.concatenate([self.objectives, objectives])
        if self._reference is None:
            worst = self.objectives.max(axis=0) + 0.05 * np.ptp(self.objectives, axis=0) + 1e-9
            # only what keeps the limits counts as progress
            self._reference = np.minimum(worst, self.limits)
        self.volumes.append(hypervolume(self.objectives, self._reference))

    def _propose(self) -> np.ndarray:
        nothing = self.measured[:0]
        if len(self.volumes) > self.rounds or self._stands_still():
            return nothing
        predict = self.fit(self.measured, self.objectives)
        bounded = np.isfinite(self.limits)
        best = self._best(predict, (lambda x: (predict(x) - self.limits)[:, bounded]) if bounded.any() else None)
        if len(best) == 0:
            # nothing is predicted to keep the limits: look at what comes nearest
            best = self._best(predict, None)
            best = best[np.argsort(predict(best)[:, 0], kind="stable")][: self.per_round]
        unseen = np.array([row for row in rows(best) if row not in self.known])
        if len(unseen) == 0:
            return nothing
        # spread along the front, both ends included: the slow end is the most accurate that keeps the limits
        ordered = unseen[np.argsort(predict(unseen)[:, 0], kind="stable")]
        count = min(self.per_round, len(ordered))
        return ordered[np.unique(np.linspace(0, len(ordered) - 1, count).round().astype(int))]

    def _best(self, predict: Objectives, constraints: Constraints | None) -> np.ndarray:
        return optimise(
            self.space,
            predict,
            population=self.population,
            generations=self.generations,
            seed=self.seed + len(self.volumes),
            start=self.measured[front(self.objectives)],
            constraints=constraints,
        )

    def _stands_still(self) -> bool:
        if len(self.volumes) < 2 or self.volumes[-1] == 0:  # nothing keeps the limits yet
            return False
        before, after = self.volumes[-2:]
        return after - before < self.stop_gain * after
