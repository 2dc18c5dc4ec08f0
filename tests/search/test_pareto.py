from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from instatune_deploy.search.pareto import front, hypervolume

POINTS = arrays.arrays(np.float64, st.tuples(st.integers(1, 12), st.integers(1, 3)), elements=st.integers(0, 4).map(float))


def dominates(one: np.ndarray, other: np.ndarray) -> bool:
    return bool((one <= other).all() and (one < other).any())


def test_front_by_hand() -> None:
    points = np.array([[1, 5], [2, 4], [2, 4], [3, 3], [3, 6], [0, 9], [4, 3]], dtype=float)
    assert front(points).tolist() == [5, 0, 1, 3]


def test_fronts_of_little() -> None:
    assert front(np.empty((0, 2))).tolist() == []
    assert front(np.array([[3.0, 1.0]])).tolist() == [0]
    assert front(np.array([[1.0, 1.0]] * 3)).tolist() == [0]


@given(POINTS)
def test_front_is_what_nothing_dominates(points: np.ndarray) -> None:
    chosen = front(points)
    best = {tuple(row) for row in points if not any(dominates(other, row) for other in points)}
    assert {tuple(points[index]) for index in chosen} == best
    assert len(chosen) == len(best)  # of equal points one
    assert (np.diff(points[chosen, 0]) >= 0).all()


def test_hypervolume_by_hand() -> None:
    reference = np.array([10.0, 10.0])
    assert hypervolume(np.array([[2.0, 6.0]]), reference) == pytest.approx(8 * 4)
    assert hypervolume(np.array([[2.0, 6.0], [6.0, 2.0]]), reference) == pytest.approx(8 * 4 + 4 * 4)
    assert hypervolume(np.array([[2.0, 6.0], [6.0, 2.0], [7.0, 7.0]]), reference) == pytest.approx(48)
    assert hypervolume(np.array([[11.0, 1.0]]), reference) == 0
