"""The loop around NSGA-II: measure, learn, search the predictors, measure what they promise, until the front stands still.

After LINAS (arXiv 2205.10358): one predictor per objective, an evolutionary search on the predictors, and only the best of what
is not yet known is measured. Which of it that is says its expected gain (`gain`), uncertainty included.
"""

from __future__ import annotations

import numpy as np

from instatune_deploy.search.base import Constraints, Fit, Predicted, Space
from instatune_deploy.search.gain import most_gained
from instatune_deploy.search.nsga2 import optimise
from instatune_deploy.search.pareto import front
from instatune_deploy.search.rounds import Strategy


class Linas(Strategy):
    """Measures what its predictors say gains most.

    stop_gain: a round that adds less than this share to the front's hypervolume is the last
    asked:     index of the objective that the choice is made by, among what keeps the limits
    shapes:    (n, genes), where NSGA-II begins beside the front that is known, such as members with layers alike
    """

    predicts = True

    def __init__(
        self,
        space: Space,
        fit: Fit,
        first: np.ndarray,
        limits: np.ndarray,
        also: Constraints | None = None,
        *,
        rounds: int,
        per_round: int,
        stop_gain: float,
        population: int,
        generations: int,
        seed: int,
        asked: int = -1,
        shapes: np.ndarray | None = None,
    ) -> None:
        super().__init__(space, first, limits, also, rounds=rounds, per_round=per_round, seed=seed)
        self.fit, self.stop_gain = fit, stop_gain
        self.population, self.generations, self.asked = population, generations, asked
        self.shapes = np.empty((0, len(space.choices)), dtype=np.int64) if shapes is None else space.canonical(shapes)
        self._before = 0

    def propose(self) -> np.ndarray:
        """Of the last population that NSGA-II makes of the predictors: their front, and what is near it."""
        nothing = self.measured[:0]
        if self._stands_still():
            return nothing
        predicted = self.fit(self.measured, self.objectives)
        bounded = np.isfinite(self.limits)
        limited = bounded.any() or self.also is not None
        best = self._best(predicted, (lambda x: self.exceeded(x, predicted.mean(x))) if limited else None)
        if len(best) == 0:
            # nothing is predicted to keep the limits: look at what comes nearest
            return self._nearest(predicted)
        unseen = self.unknown(best)
        if len(unseen) == 0:
            return nothing
        rng = np.random.default_rng([self.seed, len(self.volumes)])
        mean, spread = predicted.mean(unseen), predicted.spread(unseen)
        # of what keeps the limits, the best in the rest is what somebody asks for: at its end, the front gains little by it
        able = np.flatnonzero((mean < self.worst).all(axis=1))
        wanted = [int(able[mean[able, self.asked].argmin()])] if limited and not bounded[self.asked] and len(able) else []
        return unseen[most_gained(self.kept_objectives(), mean, spread, self.reference, self.per_round, rng, wanted)]

    def _nearest(self, predicted: Predicted) -> np.ndarray:
        """What is predicted to exceed the limits least."""
        unseen = self.unknown(self._best(predicted, None))
        unseen = unseen[(predicted.mean(unseen) < self.worst).all(axis=1)] if len(unseen) else unseen
        if len(unseen) == 0:
            return unseen
        excess = self.exceeded(unseen, predicted.mean(unseen)).max(axis=1)
        return unseen[np.argsort(excess, kind="stable")][: self.per_round]

    def _best(self, predicted: Predicted, constraints: Constraints | None) -> np.ndarray:
        return optimise(
            self.space,
            predicted.mean,
            population=self.population,
            generations=self.generations,
            seed=self.seed + len(self.volumes),
            # not all of them where they are many: the rest of the first population is drawn
            start=np.concatenate(
                [self.measured[front(self.objectives)], self._kept_front(), _thinned(self.shapes, self.population // 2)]
            ),
            constraints=constraints,
            whole=True,
        )

    def _kept_front(self) -> np.ndarray:
        """Of what keeps all limits."""
        exceeded = self.exceeded(self.measured, self.objectives)
        kept = np.flatnonzero((exceeded <= 0).all(axis=1)) if exceeded.shape[1] else np.empty(0, dtype=np.int64)
        return self.measured[kept[front(self.objectives[kept])]]

    def tell(self, measured: np.ndarray, objectives: np.ndarray) -> None:
        """As in `Strategy`."""
        self._before = len(self.measured)
        super().tell(measured, objectives)

    def _stands_still(self) -> bool:
        after = self.volume(len(self.measured))
        if len(self.volumes) < 2 or after == 0:  # nothing keeps the limits yet
            return False
        # both as the limits are known now
        return after - self.volume(self._before) < self.stop_gain * after


def _thinned(genotypes: np.ndarray, count: int) -> np.ndarray:
    """At most ``count`` of them, evenly taken."""
    return genotypes[:: max(1, -(-len(genotypes) // max(1, count)))]
