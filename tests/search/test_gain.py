from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from instatune_deploy.search.gain import gains, most_gained
from instatune_deploy.search.pareto import hypervolume

REFERENCE = np.array([10.0, 10.0])
KNOWN = np.array([[2.0, 6.0], [6.0, 2.0]])
POINTS = arrays.arrays(np.float64, st.tuples(st.integers(1, 8), st.just(2)), elements=st.integers(0, 12).map(float))


def test_gains_by_hand() -> None:
    points = np.array([[4.0, 4.0], [1.0, 7.0], [2.0, 6.0], [7.0, 7.0], [3.0, 1.0], [11.0, 0.0], [0.0, 0.0]])
    # beside 48 that are there: a square of 2 by 2; a column of 1 by 3; nothing; nothing; from (3, 1) to the corner 7 * 9 = 63, of
    # which 40 are there already (4 * 8 and what lies left of it, 3 * 4 = 12, ...): by hypervolume; nothing; the rest of 100
    expected = [4, 3, 0, 0, hypervolume(np.vstack([KNOWN, [[3.0, 1.0]]]), REFERENCE) - 48, 0, 52]
    assert gains(KNOWN, points, REFERENCE).tolist() == pytest.approx(expected)


@given(POINTS, POINTS)
def test_gains_are_differences_of_hypervolumes(known: np.ndarray, points: np.ndarray) -> None:
    before = hypervolume(known, REFERENCE)
    expected = [hypervolume(np.vstack([known, point]), REFERENCE) - before for point in points]
    np.testing.assert_allclose(gains(known, points, REFERENCE), expected, atol=1e-9)


def test_of_three_objectives() -> None:
    known, reference = np.array([[5.0, 5.0, 5.0]]), np.full(3, 10.0)
    found = gains(known, np.array([[5.0, 5.0, 4.0], [6.0, 6.0, 6.0], [0.0, 0.0, 0.0]]), reference)
    assert found.tolist() == pytest.approx([25, 0, 875])
    assert gains(known[:0], known, reference).tolist() == pytest.approx([125])


def test_of_nothing_known() -> None:
    assert gains(KNOWN[:0], np.array([[4.0, 7.0], [12.0, 1.0]]), REFERENCE).tolist() == [18, 0]


def test_a_round_does_not_measure_the_same_twice() -> None:
    """Two neighbours gain most each; when one is measured, the other gains less than the one far away."""
    mean = np.array([[3.0, 3.0], [3.1, 3.0], [1.0, 7.0]])
    certain = np.zeros_like(mean)
    assert most_gained(KNOWN, mean, certain, REFERENCE, 2, np.random.default_rng(0)) == [0, 2]
    assert most_gained(KNOWN, mean, certain, REFERENCE, 9, np.random.default_rng(0)) == [0, 2]  # the third gains nothing
    assert most_gained(KNOWN, mean[:0], certain[:0], REFERENCE, 3, np.random.default_rng(0)) == []


def test_what_is_taken_in_any_case() -> None:
    mean = np.array([[3.0, 3.0], [3.1, 3.0], [9.0, 9.0]])
    certain = np.zeros_like(mean)
    assert most_gained(KNOWN, mean, certain, REFERENCE, 2, np.random.default_rng(0), taken=[2]) == [2, 0]
    assert most_gained(KNOWN, mean, certain, REFERENCE, 1, np.random.default_rng(0), taken=[2]) == [2]


def test_uncertainty_counts() -> None:
    """Alike in what is expected of them, and neither on the front: the less certain one may be better."""
    mean = np.array([[5.0, 5.0], [5.0, 5.0]])
    spread = np.array([[0.1, 0.1], [2.0, 2.0]])
    assert most_gained(np.array([[4.0, 4.0]]), mean, spread, REFERENCE, 1, np.random.default_rng(0)) == [1]
    # beyond the limit nothing counts, however uncertain a little
    beyond = np.array([[15.0, 1.0], [9.0, 3.9]])
    assert most_gained(np.array([[4.0, 4.0]]), beyond, np.full((2, 2), 0.01), REFERENCE, 2, np.random.default_rng(0)) == [1]
