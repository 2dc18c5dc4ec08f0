"""Ours and its peers, each as a strategy over a pool: what they are given, and how they are set."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
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
from instatune_deploy.search.random import Random
from instatune_deploy.search.rounds import Strategy

Contestant = Callable[[Pool, int, np.ndarray], Strategy]
"""pool, seed, limits (2,) -> a strategy that goes on until it has no wish left."""
ROUNDS = 10**6
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
        return Evolution(PoolSpace(pool), first, limits, rounds=ROUNDS, per_round=population, seed=seed)

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


class PaperLinas(Strategy):
    """Measures at random first; then, round by round, what is best on one predictor per objective.

    In the paper NSGA-II looks for that; in a pool it is looked up. The predictors are ridge regression (latency) and support
    vectors (accuracy) on one-hot choices.
    """

    predicts = True

    def propose(self) -> np.ndarray:
        """Of what the predictors say is best, what is not known, front by front."""

        def one_hot() -> OneHotEncoder:
            return OneHotEncoder(categories=[range(count) for count in self.space.choices], handle_unknown="ignore")

        latency = make_pipeline(one_hot(), Ridge(alpha=1.0)).fit(self.measured, self.objectives[:, 0])
        span = max(np.ptp(self.objectives[:, 1]), 1e-9)
        # support vectors know no scale: errors in units of their range
        error = make_pipeline(one_hot(), SVR(C=1.0, epsilon=0.01)).fit(self.measured, self.objectives[:, 1] / span)

        def predicted(genotypes: np.ndarray) -> np.ndarray:
            return np.column_stack([latency.predict(genotypes), error.predict(genotypes) * span])

        assert isinstance(self.space, PoolSpace)
        members = self.space.pool.genotypes
        population = best_of(members, predicted(members), POPULATION)
        unseen = self.unknown(population)
        if len(unseen) == 0:
            return unseen
        return unseen[: self.per_round]


def best_of(members: np.ndarray, objectives: np.ndarray, count: int) -> np.ndarray:
    """What NSGA-II's last population would be of a pool, (at most ``count``, genes): front by front, the first front first."""
    if len(members) == 0:
        return members
    fronts = NonDominatedSorting().do(objectives, n_stop_if_ranked=count)
    return members[np.concatenate(fronts)[:count].astype(np.int64)]


class _Shuffled(Random):
    """Draws among the members, not among genotypes: the members that are most like many others would come first."""

    def propose(self) -> np.ndarray:
        assert isinstance(self.space, PoolSpace)
        order = np.random.default_rng([self.seed, 7]).permutation(len(self.space.pool))
        return self.unknown(self.space.pool.genotypes[order])[: self.per_round]


def _drawn(pool: Pool, seed: int, count: int) -> np.ndarray:
    return pool.genotypes[np.random.default_rng(seed).permutation(len(pool))[:count]]
