from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from instatune_deploy.devices.latency import Limits
from instatune_deploy.devices.statistics import binomial_cdf, limits, percentile, spread

RUNS = st.lists(st.floats(0.001, 1e4), min_size=1, max_size=400)
SHARE = st.sampled_from([0.5, 0.9, 0.99])


def test_percentiles_by_hand() -> None:
    runs = [10.0, 1.0, 9.0, 2.0, 8.0, 3.0, 7.0, 4.0, 6.0, 5.0]
    assert percentile(runs, 0.5) == 6.0  # index ceil(4.5) = 5
    assert percentile(runs, 0.9) == 10.0  # index ceil(8.1) = 9
    assert percentile(list(range(1, 102)), 0.9) == 91.0  # index 90 exactly
    assert percentile(list(range(1, 102)), 0.99) == 100.0


@given(RUNS, SHARE)
def test_percentile_is_never_optimistic(runs: list[float], share: float) -> None:
    found = percentile(runs, share)
    assert found in runs
    assert found >= np.quantile(runs, share, method="inverted_cdf")
    assert found >= np.quantile(runs, share, method="linear") * (1 - 1e-12)


def test_limits_of_the_median_by_hand() -> None:
    # Binomial(10, 1/2): P(B <= 1) = 11/1024 = 1.1%, P(B <= 2) = 5.5%, P(B <= 7) = 94.5%, P(B <= 8) = 98.9%
    assert limits([float(run) for run in range(1, 11)], 0.5) == Limits(lower_ms=2.0, upper_ms=9.0)


def test_limits_of_p90_need_29_runs() -> None:
    # 0.9 ** 28 = 5.23%, 0.9 ** 29 = 4.71%
    assert limits(list(range(1, 29)), 0.9).upper_ms is None
    assert limits(list(range(1, 30)), 0.9).upper_ms == 29.0


def test_limits_of_p99_need_299_runs() -> None:
    assert limits(list(range(1, 299)), 0.99).upper_ms is None
    assert limits(list(range(1, 300)), 0.99).upper_ms == 299.0


def test_a_single_run_bounds_nothing() -> None:
    assert limits([5.0], 0.5) == Limits(lower_ms=0.0, upper_ms=None)


@given(RUNS, SHARE)
def test_percentile_lies_between_its_limits(runs: list[float], share: float) -> None:
    found = limits(runs, share)
    assert found.lower_ms <= percentile(runs, share)
    assert found.upper_ms is None or found.upper_ms >= percentile(runs, share)


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_limits_hold_as_often_as_they_say(share: float) -> None:
    generator = np.random.default_rng(1)
    found = [limits(generator.random(60), share) for _ in range(2000)]  # the true percentile of these is the share itself
    assert np.mean([item.upper_ms is not None and item.upper_ms >= share for item in found]) >= 0.94
    assert np.mean([item.lower_ms <= share for item in found]) >= 0.94


@pytest.mark.parametrize("count", [1, 2, 3, 28, 29, 30, 299, 1000, 20_000])
@pytest.mark.parametrize("share", [0.001, 0.05, 0.5, 0.9, 0.99, 0.9999])
def test_binomial_distribution_is_scipys(count: int, share: float) -> None:
    found = binomial_cdf(count, share)
    assert found.shape == (count + 1,)
    np.testing.assert_allclose(found, binom.cdf(np.arange(count + 1), count, share), rtol=1e-8, atol=1e-12)


@given(st.integers(1, 300), st.floats(1e-3, 1 - 1e-3))
def test_binomial_distribution_of_any_share(count: int, share: float) -> None:
    expected = binom.cdf(np.arange(count + 1), count, share)
    np.testing.assert_allclose(binomial_cdf(count, share), expected, rtol=1e-9, atol=1e-12)


def test_binomial_distribution_by_hand() -> None:
    np.testing.assert_allclose(binomial_cdf(3, 0.5), [1 / 8, 4 / 8, 7 / 8, 1])
    np.testing.assert_allclose(binomial_cdf(2, 0.9), [0.01, 0.19, 1])


def test_spread_by_hand() -> None:
    assert spread([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx((4 - 2) / 3)
