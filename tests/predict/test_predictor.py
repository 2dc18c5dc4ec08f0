from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from instatune_deploy.errors import BadInput
from instatune_deploy.predict.linear import Linear
from instatune_deploy.predict.predictor import MIN_MEASUREMENTS, Predictor

NAMES = ["depth", "heads", "mlp_widths", "macs"]


def latencies(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """As of a device: a base, something per layer, head and neuron, a cache that gets too small, and 1% of noise."""
    rng = np.random.default_rng(seed)
    depth = rng.integers(1, 7, count)
    heads, widths = depth * rng.integers(4, 13, count), depth * rng.integers(4, 25, count) * 64
    macs = heads * 32 * 1500 + widths * 768
    x = np.column_stack([depth, heads, widths, macs]).astype(np.float64)
    y = 1.5 + 0.4 * depth + 0.08 * heads + 0.0012 * widths + 1.5 * np.maximum(0, widths - 5000) / 5000
    return x, y * (1 + 0.01 * rng.standard_normal(count))


def mape(predicted: np.ndarray, y: np.ndarray) -> float:
    return float(np.mean(np.abs(predicted - y) / y))


@pytest.mark.parametrize("count", [16, 60, 400])
def test_not_worse_than_a_line(count: int) -> None:
    (x, y), (x_test, y_test) = latencies(count, seed=count), latencies(1000, seed=1)
    line = mape(Linear.fit(x, y, (1 / y**2) / (1 / y**2).mean()).predict(x_test), y_test)
    boosted = mape(Predictor.fit(x, y, NAMES, relative=True, seed=0).predict(x_test), y_test)
    assert boosted < line + 0.002
    if count == 400:  # enough to see the cache
        assert boosted < 0.9 * line


def test_the_same_for_a_seed() -> None:
    x, y = latencies(30, seed=0)
    fits = [Predictor.fit(x, y, NAMES, relative=True, seed=seed).predict(x) for seed in (3, 3)]
    assert (fits[0] == fits[1]).all()
    assert Predictor.fit(x, y, NAMES, relative=True, seed=3).count == 30


def test_relative_errors_favour_the_small() -> None:
    """A kink that a line cannot follow: in shares, the fit is better at the fast end."""
    x = np.repeat(np.linspace(1, 10, 10), 3).reshape(-1, 1)
    y = (x.ravel() ** 2) + 1
    small = x.ravel() < 3
    relative = Linear.fit(x, y, 1 / y**2 / (1 / y**2).mean()).predict(x)
    absolute = Linear.fit(x, y, np.ones(30)).predict(x)
    assert np.abs(relative - y)[small].max() < np.abs(absolute - y)[small].max()
    predictor = Predictor.fit(x, y, ["x"], relative=True, seed=0)
    assert (predictor.linear.predict(x) == relative).all()


MADE_FOR = {"device": "xeon-cpu", "space": {"layers": 6}}


def test_save_and_load(tmp_path: Path) -> None:
    x, y = latencies(30, seed=0)
    predictor = Predictor.fit(x, y, NAMES, relative=True, seed=0)
    predictor.save(tmp_path / "new", "latency", [str(number) for number in range(30)], MADE_FOR)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["latency.cbm", "latency.json"]
    again = Predictor.load(tmp_path / "new", "latency", MADE_FOR)
    assert (again.names, again.count, again.relative, again.quality) == (NAMES, 30, True, predictor.quality)
    x_test, _ = latencies(100, seed=1)
    np.testing.assert_allclose(again.predict(x_test), predictor.predict(x_test), rtol=1e-12)
    np.testing.assert_allclose(again.interval(x_test), predictor.interval(x_test), rtol=1e-12)


def test_files_of_something_else(tmp_path: Path) -> None:
    Predictor.fit(*latencies(30, seed=0), NAMES, relative=True, seed=0).save(tmp_path, "latency", [], MADE_FOR)
    path = tmp_path / "latency.json"
    for made_for, message in (
        ({**MADE_FOR, "device": "raspberry-pi"}, r"made for another device \(xeon-cpu, not raspberry-pi\)"),
        ({**MADE_FOR, "space": {"layers": 12}}, r"made for another space \(\{'layers': 6\}, not \{'layers': 12\}\)"),
    ):
        with pytest.raises(BadInput, match=message):
            Predictor.load(tmp_path, "latency", made_for)
    with pytest.raises(BadInput, match=r"accuracy\.json: cannot be read: no such file"):
        Predictor.load(tmp_path, "accuracy", MADE_FOR)
    (tmp_path / "latency.cbm").write_bytes(b"no trees")
    with pytest.raises(BadInput, match=r"latency\.json: not a predictor \("):
        Predictor.load(tmp_path, "latency", MADE_FOR)
    path.write_text("{}")
    with pytest.raises(BadInput, match=r"latency\.json: not a predictor \('made_for'\)"):
        Predictor.load(tmp_path, "latency", MADE_FOR)


@pytest.mark.parametrize("relative", [True, False])
def test_nine_tenths_of_what_it_has_not_seen_lie_in_its_interval(relative: bool) -> None:
    """Over 20 predictors of 40 measurements: 4000 points of 90% expected."""
    inside = []
    for seed in range(20):
        x, y = latencies(40, seed=seed)
        x_test, y_test = latencies(200, seed=1000 + seed)
        lower, upper = Predictor.fit(x, y, NAMES, relative=relative, seed=0).interval(x_test)
        inside.append(np.mean((lower <= y_test) & (y_test <= upper)))
    assert 0.86 < np.mean(inside) < 0.95


def test_as_many_trees_as_help() -> None:
    """None on a straight line with noise; many where there is something that a line cannot say."""
    rng = np.random.default_rng(0)
    x = rng.uniform(1, 10, (60, 2))
    straight = 5 + x @ [1.0, 2.0] + rng.normal(0, 1.0, 60)
    predictor = Predictor.fit(x, straight, ["a", "b"], relative=False, seed=0)
    without = replace(predictor, trees=0)
    assert (without.predict(x) == without.linear.predict(x)).all()
    bent = 5 + 10 * (x[:, 0] > 5)
    boosted = Predictor.fit(x, bent, ["a", "b"], relative=False, seed=0)
    assert predictor.trees < boosted.trees
    assert boosted.trees >= 100
    assert np.abs(boosted.predict(x) - bent).mean() < 0.5 * np.abs(boosted.linear.predict(x) - bent).mean()


def test_a_network_that_is_measured_several_times_does_not_vouch_for_itself() -> None:
    """Five measurements of each, alike: held out one by one they would all be known, and the noise of networks be none."""
    rng = np.random.default_rng(0)
    x = rng.uniform(1, 10, (16, 2))
    y = rng.normal(0.8, 0.05, 16)  # nothing to learn
    networks = np.repeat(np.arange(16), 5)
    kinds = np.tile(np.arange(5), 16)
    many = np.column_stack([x[networks], kinds])
    told = y[networks] + 0.001 * kinds
    honest = Predictor.fit(many, told, ["a", "b", "kind"], relative=False, seed=0, groups=networks)
    flattered = Predictor.fit(many, told, ["a", "b", "kind"], relative=False, seed=0)
    assert flattered.quality.mae < 0.02 < 0.03 < honest.quality.mae
    assert (honest.quality.count, flattered.quality.count, honest.count) == (16, 80, 80)


def test_errors_by_hand() -> None:
    """What it is off by are shares of the value, or in its unit; the interval is as wide as the rank says."""
    x, y = latencies(19, seed=0)
    for relative in (True, False):
        predictor = Predictor.fit(x, y, NAMES, relative=relative, seed=0)
        assert (np.diff(predictor.errors) >= 0).all()
        # shares are of what is predicted: a little other than those of what was measured
        same = predictor.quality.mape if relative else predictor.quality.mae
        assert predictor.errors.mean() == pytest.approx(same, rel=0.1 if relative else 1e-9)
        predicted = predictor.predict(x)
        scale = predicted if relative else 1.0
        lower, upper = predictor.interval(x, 0.5)  # of 19 errors the tenth: 20 * 0.5
        np.testing.assert_allclose(upper - predicted, predictor.errors[9] * scale)
        np.testing.assert_allclose(predicted - lower, predictor.errors[9] * scale)
        np.testing.assert_allclose(predictor.spread(x), np.sqrt((predictor.errors**2).mean()) * scale)
        # more than 19 errors can say: the largest
        np.testing.assert_allclose(predictor.interval(x, 0.99)[1] - predicted, predictor.errors[-1] * scale)


def test_a_latency_of_nothing() -> None:
    x, y = latencies(20, seed=0)
    y[3] = 0.0
    with pytest.raises(BadInput, match="a latency must be more than 0"):
        Predictor.fit(x, y, NAMES, relative=True, seed=0)


@pytest.mark.parametrize("count", [0, 1, MIN_MEASUREMENTS - 1])
def test_too_few_measurements(count: int) -> None:
    x, y = latencies(20, seed=0)
    with pytest.raises(BadInput, match=f"at least {MIN_MEASUREMENTS} measurements; {MIN_MEASUREMENTS - count} are missing"):
        Predictor.fit(x[:count], y[:count], NAMES, relative=True, seed=0)


def test_just_enough_measurements() -> None:
    x, y = latencies(MIN_MEASUREMENTS, seed=0)
    assert np.isfinite(Predictor.fit(x, y, NAMES, relative=True, seed=0).predict(x)).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["x", "y"])
def test_what_is_no_number(value: float, where: str) -> None:
    x, y = latencies(20, seed=0)
    (x if where == "x" else y)[3] = value
    with pytest.raises(BadInput, match="a measurement is not a number"):
        Predictor.fit(x, y, NAMES, relative=True, seed=0)


@pytest.mark.parametrize("relative", [True, False])
def test_constant_targets(relative: bool) -> None:
    x, _ = latencies(12, seed=0)
    predictor = Predictor.fit(x, np.full(12, 0.75), NAMES, relative=relative, seed=0)
    np.testing.assert_allclose(predictor.predict(latencies(50, seed=1)[0]), 0.75, atol=1e-6)


def test_a_perfect_line() -> None:
    x, _ = latencies(40, seed=0)
    y = 1 + x @ [0.5, 0.25, 0.001, 0.0]
    predictor = Predictor.fit(x, y, NAMES, relative=True, seed=0)
    np.testing.assert_allclose(predictor.predict(x), y, rtol=1e-3)
