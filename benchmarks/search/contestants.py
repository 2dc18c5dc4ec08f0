"""Ours and its peers, each as a strategy over a pool: what they are given, and how they are set."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from pymoo.core.duplicate import NoDuplicateElimination
from pymoo.operators.survival.rank_and_crowding.metrics import calc_crowding_distance
from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import OneHotEncoder
from sklearn.svm import SVR

from benchmarks.search.pool import Pool
from benchmarks.search.tabular import PoolSpace
from instatune_deploy.config import SearchSettings
from instatune_deploy.predict.features import feature_names, features
from instatune_deploy.predict.predictor import Predictor
from instatune_deploy.search.base import Constraints, Predicted
from instatune_deploy.search.design import spread_over_cost
from instatune_deploy.search.evolution import Evolution
from instatune_deploy.search.linas import Linas
from instatune_deploy.search.nsga2 import Nsga2
from instatune_deploy.search.random import Random
from instatune_deploy.search.rounds import Strategy

Contestant = Callable[[Pool, int, np.ndarray], Strategy]
"""pool, seed, limits (2,) -> a strategy that goes on until it has no wish left."""
ROUNDS = 10**6
PENALTIES = np.logspace(-3, 3, 13)
SLACKS = [0.1, 1.0, 10.0, 100.0]
FOLDS = 3
SETTINGS = SearchSettings()
POPULATION = 50
"""LINAS: of the search on the predictors."""


def features_of(pool: Pool, genotypes: np.ndarray) -> np.ndarray:
    """As the search sees an architecture."""
    return features(pool.space, pool.shape, genotypes.astype(np.int64), pool.tokens)


def ours(pool: Pool, seed: int, limits: np.ndarray) -> Strategy:
    """The default: a design spread over MACs, CatBoost on a line, and what is expected to gain most."""
    names = feature_names(pool.space)

    def fit(genotypes: np.ndarray, objectives: np.ndarray) -> Predicted:
        x = features_of(pool, genotypes)
        latency = Predictor.fit(x, objectives[:, 0], names, relative=True, seed=seed)
        error = Predictor.fit(x, objectives[:, 1], names, relative=False, seed=seed)

        def of(tell: Callable[[Predictor, np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
            return lambda unseen: np.column_stack([tell(each, features_of(pool, unseen)) for each in (latency, error)])

        return Predicted(of(Predictor.predict), of(Predictor.spread))

    space = PoolSpace(pool)
    first = spread_over_cost(
        space,
        pool.macs,
        SETTINGS.initial,
        np.random.default_rng(seed),
        include=np.array([pool.space.encode(pool.space.largest()), pool.space.encode(pool.space.smallest())]),
        prefer=np.array([pool.space.encode(item) for item in pool.space.uniform()]),
    )
    return OursOverPool(
        space,
        fit,
        first,
        limits,
        rounds=ROUNDS,
        per_round=SETTINGS.per_round,
        stop_gain=0.0,
        population=SETTINGS.population,
        generations=SETTINGS.generations,
        seed=seed,
    )


def nsga2(population: int) -> Contestant:
    """NSGA-II that measures every individual."""

    def made(pool: Pool, seed: int, limits: np.ndarray) -> Strategy:
        first = _drawn(pool, seed, population)
        return PoolEvolution(PoolSpace(pool), first, limits, rounds=ROUNDS, per_round=population, seed=seed)

    return made


def linas(per_round: int) -> Contestant:
    """LINAS as its paper has it (arXiv 2205.10358, algorithm 1)."""

    def made(pool: Pool, seed: int, limits: np.ndarray) -> Strategy:
        return PaperLinas(PoolSpace(pool), _drawn(pool, seed, per_round), limits, rounds=ROUNDS, per_round=per_round, seed=seed)

    return made


def random(pool: Pool, seed: int, limits: np.ndarray) -> Strategy:
    """Members of the pool in any order, each as likely as the others."""
    return _Shuffled(PoolSpace(pool), _drawn(pool, seed, SETTINGS.per_round), limits, rounds=ROUNDS, per_round=1, seed=seed)


class OursOverPool(Linas):
    """The default strategy; what NSGA-II looks for in a space without end is looked up in a pool."""

    def _best(self, predicted: Predicted, constraints: Constraints | None) -> np.ndarray:
        assert isinstance(self.space, PoolSpace)
        members = self.space.pool.genotypes
        if constraints is not None:
            members = members[(constraints(members) <= 0).all(axis=1)]
        return best_of(members, predicted.mean(members), self.population)


class PoolEvolution(Evolution):
    """NSGA-II in a pool: a child that is known already gives way to the unknown member that is most like it.

    In a space without end nearly every child is new. In a pool most children would be what their parents are.
    """

    def propose(self) -> np.ndarray:
        """The next generation, all of it new."""
        assert isinstance(self.space, PoolSpace)
        if self.nsga2 is None:
            self.nsga2 = Nsga2(self.space, len(self.measured), self.seed, self.measured, len(self.limits), 0, self.per_round)
            for step in (self.nsga2.algorithm, self.nsga2.algorithm.mating):
                step.eliminate_duplicates = NoDuplicateElimination()
            self.asked = self.nsga2.ask()
        self._tell_what_is_known()
        self.asked = self.space.unknown_like(self.nsga2.ask(), self.known)
        self.nsga2.asked = self.nsga2.asked[: len(self.asked)]
        self.nsga2.asked.set("X", self.asked)
        return self.asked


class PaperLinas(Strategy):
    """Measures at random first; then, round by round, what is best on one predictor per objective.

    In the paper NSGA-II looks for that; in a pool it is looked up. The predictors are ridge regression (latency) and support
    vectors (accuracy) on one-hot choices, a layer that is not there being one; their penalties are chosen by cross-validation.
    """

    predicts = True

    def propose(self) -> np.ndarray:
        """Of what the predictors say is best, what is not known, front by front."""

        assert isinstance(self.space, PoolSpace)
        members = self.space.pool.genotypes
        encoder = OneHotEncoder(sparse_output=False).fit(self._sizes(members))
        x = encoder.transform(self._sizes(self.measured))
        latency = RidgeCV(PENALTIES).fit(x, self.objectives[:, 0])
        span = max(np.ptp(self.objectives[:, 1]), 1e-9)
        # support vectors know no scale: errors in units of their range
        folds = min(FOLDS, len(x))
        error = GridSearchCV(SVR(epsilon=0.01), {"C": SLACKS}, cv=folds, scoring="neg_mean_absolute_error")
        error.fit(x, self.objectives[:, 1] / span)
        every = encoder.transform(self._sizes(members))
        predicted = np.column_stack([latency.predict(every), error.predict(every) * span])
        population = best_of(members, predicted, POPULATION)
        return self.unknown(population)[: self.per_round]

    def _sizes(self, genotypes: np.ndarray) -> np.ndarray:
        """Heads and MLP widths of every layer, 0 where there are none: (n, 2 layers)."""
        assert isinstance(self.space, PoolSpace)
        return np.column_stack(self.space.pool.space.sizes(genotypes.astype(np.int64)))


def best_of(members: np.ndarray, objectives: np.ndarray, count: int) -> np.ndarray:
    """What NSGA-II's last population would be of a pool, (at most ``count``, genes): front by front, and of each front those
    first that have most room around them."""
    chosen: list[int] = []
    if len(members):
        for part in NonDominatedSorting().do(objectives, n_stop_if_ranked=count):
            room = calc_crowding_distance(objectives[part])
            chosen += part[np.argsort(-room, kind="stable")].tolist()
    return members[chosen[:count]]


class _Shuffled(Random):
    """Draws among the members, not among genotypes: the members that are most like many others would come first."""

    def propose(self) -> np.ndarray:
        assert isinstance(self.space, PoolSpace)
        order = np.random.default_rng([self.seed, 7]).permutation(len(self.space.pool))
        return self.unknown(self.space.pool.genotypes[order])[: self.per_round]


def _drawn(pool: Pool, seed: int, count: int) -> np.ndarray:
    return pool.genotypes[np.random.default_rng(seed).permutation(len(pool))[:count]]
