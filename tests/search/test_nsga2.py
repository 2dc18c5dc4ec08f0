from __future__ import annotations

import numpy as np
import pytest

from instatune_deploy.search.base import rows
from instatune_deploy.search.nsga2 import Nsga2, optimise
from instatune_deploy.search.pareto import front

from .conftest import Switched, Vectors

SPACE = Vectors(np.array([4, 4, 3, 4, 3]))
COST = np.array([1.0, 2.5, 4.0, 0.5, 3.0])
GAIN = np.array([1.0, 4.0, 2.0, 0.75, 5.0])
START = np.zeros((1, 5), dtype=np.int64)


def objectives(genotypes: np.ndarray) -> np.ndarray:
    """Separable: every gene costs something and gains something, each with falling returns."""
    return np.column_stack([genotypes @ COST, 50 - np.sqrt(genotypes) @ GAIN])


def values(genotypes: np.ndarray) -> set[tuple[float, float]]:
    return {(round(cost, 9), round(loss, 9)) for cost, loss in objectives(genotypes)}


def exact(limit: float = np.inf) -> np.ndarray:
    """By looking at all 576."""
    every = SPACE.all()
    every = every[objectives(every)[:, 0] <= limit]
    return every[front(objectives(every))]


def found(seed: int, limit: float | None = None) -> np.ndarray:
    constraints = None if limit is None else (lambda x: objectives(x)[:, :1] - limit)
    return optimise(SPACE, objectives, population=80, generations=20, seed=seed, start=START, constraints=constraints)


@pytest.mark.parametrize("seed", range(2))
def test_the_exact_front_of_a_small_problem(seed: int) -> None:
    assert len(exact()) > 20
    assert values(found(seed)) == values(exact())


@pytest.mark.parametrize("seed", range(2))
def test_constraints_are_kept(seed: int) -> None:
    limited = found(seed, limit=9.0)
    assert objectives(limited)[:, 0].max() <= 9.0
    assert values(limited) == values(exact(9.0))


def test_nothing_keeps_the_constraints() -> None:
    assert found(0, limit=-1.0).shape == (0, 5)


def test_the_same_for_a_seed() -> None:
    asked = []
    for seed in (5, 5, 6):
        strategy = Nsga2(SPACE, 20, seed, START)
        generations = []
        for _ in range(5):
            generations.append(strategy.ask())
            strategy.tell(objectives(generations[-1]))
        asked.append(generations)
    assert all((one == other).all() for one, other in zip(asked[0], asked[1], strict=True))
    assert any(one.shape != other.shape or (one != other).any() for one, other in zip(asked[0], asked[2], strict=True))


def test_asked_are_canonical_vectors_of_the_space() -> None:
    space = Switched(np.array([2, 3, 3, 3, 3]))
    start = np.array([[1, 2, 2, 2, 2], [0, 0, 0, 0, 0]])
    strategy = Nsga2(space, 12, 0, start)
    for generation in range(10):
        asked = strategy.ask()
        assert asked.dtype == np.int64
        assert (asked >= 0).all()
        assert (asked < space.choices).all()
        assert (space.canonical(asked) == asked).all()
        assert len(set(rows(asked))) == len(asked)
        if generation == 0:
            assert set(rows(space.canonical(start))) <= set(rows(asked))
        strategy.tell(objectives(asked))
    best = strategy.front()
    assert (space.canonical(best) == best).all()


def test_one_objective_and_no_start() -> None:
    best = optimise(
        SPACE,
        lambda x: np.abs(x - [1, 2, 0, 3, 1]).sum(axis=1, keepdims=True).astype(float),
        population=20,
        generations=30,
        seed=0,
        start=START,
    )
    assert best.tolist() == [[1, 2, 0, 3, 1]]
    assert Nsga2(SPACE, 8, 0, START[:0]).ask().shape[1] == 5
