from __future__ import annotations

import json

import numpy as np
import pytest

from instatune_deploy.predict.linear import Linear


@pytest.fixture
def x() -> np.ndarray:
    columns = np.random.default_rng(0).standard_normal((60, 3)) * [1, 100, 1e6] + [0, 5, -7e6]
    return np.column_stack([columns, np.full(60, 4.0)])  # the last one never varies


def test_recovers_a_line(x: np.ndarray) -> None:
    y = 2 + 3 * x[:, 0] - 0.5 * x[:, 1] + 1e-6 * x[:, 2]
    linear = Linear.fit(x, y, np.ones(60))
    np.testing.assert_allclose(linear.predict(x), y, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose((linear.weights / linear.scale)[:3], [3, -0.5, 1e-6], rtol=1e-4)
    beyond = np.array([[10.0, 1000.0, 1e7, 4.0]])
    np.testing.assert_allclose(linear.predict(beyond), [2 + 30 - 500 + 10], rtol=1e-3)


def test_predicts_by_its_formula() -> None:
    linear = Linear(mean=np.array([1.0, 2.0]), scale=np.array([2.0, 4.0]), weights=np.array([3.0, -1.0]), intercept=10.0)
    assert linear.predict(np.array([[1, 2], [3, 10]])).tolist() == [10, 10 + 3 - 2]


def test_important_rows_count_more() -> None:
    x = np.array([[0.0], [0.0], [1.0], [1.0]])
    y = np.array([0.0, 1.0, 0.0, 1.0])
    low = Linear.fit(x, y, np.array([100.0, 1.0, 100.0, 1.0])).predict(x)
    np.testing.assert_allclose(low, 1 / 101, atol=0.02)


def test_json_both_ways(x: np.ndarray) -> None:
    linear = Linear.fit(x, x[:, 0] ** 2, np.ones(60))
    again = Linear.from_json(json.loads(json.dumps(linear.to_json())))
    assert (again.predict(x) == linear.predict(x)).all()
