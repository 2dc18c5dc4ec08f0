from __future__ import annotations

import json

import numpy as np
import pytest

from instatune_deploy.predict.linear import PENALTIES, Linear, left_out_error


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


@pytest.mark.parametrize("noise", [0.01, 0.5])
def test_the_penalty_is_what_scikit_learn_chooses_by_leaving_one_out(noise: float) -> None:
    from sklearn.linear_model import RidgeCV

    rng = np.random.default_rng(3)
    x, importance = rng.standard_normal((30, 8)), rng.uniform(0.2, 3.0, 30)
    y = 3 + x @ rng.standard_normal(8) + noise * rng.standard_normal(30)
    found = Linear.fit(x, y, importance)
    expected = RidgeCV(PENALTIES).fit((x - x.mean(axis=0)) / x.std(axis=0), y, sample_weight=importance)
    np.testing.assert_allclose(found.weights, expected.coef_, rtol=1e-8)
    assert found.intercept == pytest.approx(expected.intercept_)


def test_what_belongs_together_is_left_out_together() -> None:
    """As fits to all the others say, one by one; and a penalty is taken that is better for these."""
    from sklearn.linear_model import Ridge

    rng = np.random.default_rng(4)
    groups = np.repeat(np.arange(8), 4)
    x = np.repeat(rng.standard_normal((8, 6)), 4, axis=0) + 0.01 * rng.standard_normal((32, 6))
    y = x[:, 0] + np.repeat(rng.standard_normal(8), 4) + 0.01 * rng.standard_normal(32)
    importance = rng.uniform(0.5, 2.0, 32)
    centred = (x - x.mean(axis=0)) / x.std(axis=0)
    errors = []
    for penalty in PENALTIES:
        error = 0.0
        for group in range(8):
            out = groups == group
            model = Ridge(penalty).fit(centred[~out], y[~out], sample_weight=importance[~out])
            error += float(importance[out] @ (model.predict(centred[out]) - y[out]) ** 2)
        errors.append(error / 32)
    assert left_out_error(x, y, importance, groups) == pytest.approx(min(errors), rel=1e-6)
    best = Ridge(PENALTIES[int(np.argmin(errors))]).fit(centred, y, sample_weight=importance)
    np.testing.assert_allclose(Linear.fit(x, y, importance, groups).weights, best.coef_, rtol=1e-6)
    # one by one, the others of its group vouch for each: the weakest penalty is taken
    assert np.abs(Linear.fit(x, y, importance).weights).sum() > np.abs(best.coef_).sum()


def test_what_is_used_less_freely_has_less_weight() -> None:
    rng = np.random.default_rng(5)
    one = rng.standard_normal(40)
    x, y = np.column_stack([one, one]), 2 * one + 0.3 * rng.standard_normal(40)
    alike = Linear.fit(x, y, np.ones(40))
    apart = Linear.fit(x, y, np.ones(40), factors=np.array([1.0, 0.1]))
    slopes = [found.weights / found.scale for found in (alike, apart)]
    assert slopes[0][0] == pytest.approx(slopes[0][1])
    assert slopes[1][1] == pytest.approx(slopes[1][0] / 100)  # a tenth of the column, a tenth of its weight
