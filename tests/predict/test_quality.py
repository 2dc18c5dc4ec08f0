from __future__ import annotations

import numpy as np
import pytest

from instatune_deploy.predict.quality import FOLDS, held_out, quality


def test_by_hand() -> None:
    found = quality(np.array([11.0, 18.0, 45.0, 40.0]), np.array([10.0, 20.0, 30.0, 40.0]))
    # errors 1/10, 2/20, 15/30, 0; of the 6 pairs one, the last two, is in the wrong order: (5 - 1) / 6
    assert found.mape == pytest.approx((0.1 + 0.1 + 0.5 + 0) / 4)
    assert found.mae == pytest.approx((1 + 2 + 15 + 0) / 4)
    assert found.tau == pytest.approx(4 / 6)
    assert found.to_json() == {"mape": found.mape, "mae": found.mae, "tau": found.tau, "count": 4}


def test_what_was_measured_as_0_is_off_by_all_of_it_or_not_at_all() -> None:
    """A network that classifies nothing right."""
    found = quality(np.array([0.1, 0.0, 0.5]), np.array([0.0, 0.0, 0.4]))
    assert found.mape == pytest.approx((1 + 0 + 0.25) / 3)
    assert found.mae == pytest.approx(0.2 / 3)


def test_order_alone() -> None:
    assert quality(np.array([1.0, 2, 3]), np.array([10.0, 20, 30])).tau == pytest.approx(1)
    assert quality(np.array([3.0, 2, 1]), np.array([10.0, 20, 30])).tau == pytest.approx(-1)
    assert quality(np.array([1.0, 2, 3]), np.array([5.0, 5, 5])).tau == 0  # nothing to order
    assert quality(np.array([1.0]), np.array([2.0])).tau == 0


def test_held_out_predicts_every_row_once_without_it() -> None:
    y = np.arange(23.0) * 2 + 1
    asked: list[int] = []

    def fit_predict(train: np.ndarray, test: np.ndarray) -> np.ndarray:
        assert not set(train) & set(test)
        assert len(train) + len(test) == 23
        asked.extend(test)
        return y[test]

    assert (held_out(fit_predict, np.arange(23), seed=0) == y).all()
    assert sorted(asked) == list(range(23))


def test_what_is_of_one_thing_is_held_out_together() -> None:
    groups = np.repeat(np.arange(7), 3)
    seen: list[int] = []

    def fit_predict(train: np.ndarray, test: np.ndarray) -> np.ndarray:
        assert not set(groups[train]) & set(groups[test])
        assert len(train) + len(test) == 21
        seen.extend(groups[test])
        return groups[test]

    assert held_out(fit_predict, groups, 0).tolist() == groups.tolist()
    assert sorted(seen) == groups.tolist()


def test_held_out_of_several_models_at_once() -> None:
    y = np.arange(12.0)
    assert held_out(lambda train, test: np.array([y[test], -y[test]]), np.arange(12), seed=0).tolist() == [
        y.tolist(),
        (-y).tolist(),
    ]


def test_held_out_of_a_mean() -> None:
    """A model that always says the mean of what it was given is off by known amounts."""
    y = np.array([0.0] * FOLDS + [10.0] * FOLDS) + 10
    found = quality(held_out(lambda train, test: np.full(len(test), 15.0), np.arange(10), seed=3), y)
    assert found.mae == 5
    assert found.mape == pytest.approx((5 / 10 + 5 / 20) / 2)
    assert found.tau == 0


def test_held_out_is_the_same_for_a_seed() -> None:
    rng = np.random.default_rng(1)
    x, y, each = rng.standard_normal((20, 2)), rng.random(20) + 1, np.arange(20)

    def nearest(train: np.ndarray, test: np.ndarray) -> np.ndarray:
        return y[train][np.abs(x[test][:, None] - x[train][None]).sum(axis=2).argmin(axis=1)]

    assert (held_out(nearest, each, seed=0) == held_out(nearest, each, seed=0)).all()
    assert (held_out(nearest, each, seed=0) != held_out(nearest, each, seed=1)).any()
