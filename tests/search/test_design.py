from __future__ import annotations

import numpy as np
import pytest

from instatune_deploy.search.base import rows
from instatune_deploy.search.design import spread_over_cost

from .conftest import Switched, Vectors

LARGE = Vectors(np.full(24, 4))
NOTHING = np.empty((0, 24), dtype=np.int64)


def total(genotypes: np.ndarray) -> np.ndarray:
    return genotypes.sum(axis=1).astype(np.float64)


def chosen(count: int, seed: int = 0) -> np.ndarray:
    ends = np.array([[0] * 24, [3] * 24])
    return spread_over_cost(LARGE, total, count, np.random.default_rng(seed), include=ends, prefer=NOTHING)


@pytest.mark.parametrize("count", [2, 3, 8, 16, 40])
def test_different_and_with_both_ends(count: int) -> None:
    found = chosen(count)
    assert found.shape == (count, 24)
    assert len(set(rows(found))) == count
    assert {(0,) * 24, (3,) * 24} <= set(rows(found))


@pytest.mark.parametrize("seed", range(5))
def test_spread_over_cost(seed: int) -> None:
    """16 points on a cost from 0 to 72 leave no gap much wider than the even 72 / 15; a uniform draw would."""
    gaps = np.diff(np.sort(total(chosen(16, seed))))
    assert gaps.max() < 2 * 72 / 15
    uniform = np.sort(total(np.random.default_rng(seed).integers(0, 4, (16, 24))))
    assert uniform[0] > 2 * 72 / 15


def test_the_same_for_a_seed() -> None:
    assert (chosen(16, 3) == chosen(16, 3)).all()
    assert (chosen(16, 3) != chosen(16, 4)).any()


def test_a_small_space_gives_all_it_has() -> None:
    space = Switched(np.array([2, 2, 2, 3]))
    include = np.array([[0, 0, 0, 0], [0, 0, 0, 1]])  # one thing: where the first is 0, the last says nothing
    found = spread_over_cost(space, total, 50, np.random.default_rng(0), include=include, prefer=include[:0])
    assert sorted(rows(found)) == rows(space.all())
    assert rows(found)[0] == (0, 0, 0, 2)
    assert (space.canonical(found) == found).all()


def test_preferred_ones_are_candidates() -> None:
    """A vector that no draw would hit is taken when it fills a gap."""
    space = Vectors(np.full(30, 50))
    prefer = np.tile(np.arange(50)[:, None], 30)

    def cost(genotypes: np.ndarray) -> np.ndarray:
        return np.where((genotypes == genotypes[:, :1]).all(axis=1), total(genotypes), 0.0)

    found = spread_over_cost(space, cost, 6, np.random.default_rng(0), include=prefer[[0, -1]], prefer=prefer)
    assert len(np.unique(cost(found))) == 6


def test_one_of_one() -> None:
    found = spread_over_cost(
        Vectors(np.array([1, 1])), total, 4, np.random.default_rng(0), include=np.array([[0, 0]]), prefer=np.array([[0, 0]])
    )
    assert found.tolist() == [[0, 0]]
