"""One predictor for several kinds of measurement."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from instatune_deploy.errors import BadInput
from instatune_deploy.predict.linear import Linear
from instatune_deploy.predict.predictor import importance_of
from instatune_deploy.predict.shared import MIN_OF_KIND, Shared

NAMES = [f"layer {layer}" for layer in range(8)]
KINDS = 5
SPEED = np.array([1.0, 0.3, 0.5, 3.0, 2.0])
OWN = np.random.default_rng(9).uniform(0.8, 1.2, (KINDS, 8))
DESCRIBED = np.eye(KINDS)[:, :2]


def figures(x: np.ndarray, kinds: np.ndarray, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    """Every layer takes its time, a little more or less of it in each kind."""
    took = (2.0 + (x * OWN[kinds]).sum(axis=1)) * SPEED[kinds]
    return np.asarray(took * (1 + noise * np.random.default_rng(seed).standard_normal(len(x))))


def networks(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 5, (count, 8)).astype(float)


def sample(each: int, seed: int = 0, count: int = 24) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, kinds and networks: each kind measured on ``each`` of ``count`` networks."""
    rng, x = np.random.default_rng(seed), networks(count, seed)
    chosen = [rng.permutation(count)[:each] for _ in range(KINDS)]
    groups = np.concatenate(chosen)
    return x[groups], np.repeat(np.arange(KINDS), each), groups


def fit(x: np.ndarray, y: np.ndarray, kinds: np.ndarray, groups: np.ndarray, **changes: Any) -> Shared:
    settings = {"cost": x.sum(axis=1) + 1, "described": DESCRIBED, "descriptions": ["first", "second"], "seed": 0, **changes}
    return Shared.fit(x, y, kinds, NAMES, groups=groups, **settings)


def everywhere(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.repeat(x, KINDS, axis=0), np.tile(np.arange(KINDS), len(x))


@pytest.mark.parametrize("seed", range(3))
def test_what_few_measurements_of_each_kind_cannot_say_all_of_them_do(seed: int) -> None:
    x, kinds, groups = sample(8, seed)
    y = figures(x, kinds, 0.01, seed)
    unseen, own = everywhere(networks(60, seed + 100))
    truth = figures(unseen, own)
    together = np.abs(fit(x, y, kinds, groups).predict(unseen, own) / truth - 1).mean()
    alone = []
    for kind in range(KINDS):
        one = kinds == kind
        line = Linear.fit(x[one], y[one], importance_of(y[one], relative=True))
        alone.append(np.abs(line.predict(unseen[own == kind]) / truth[own == kind] - 1).mean())
    assert together < 0.5 * np.mean(alone)
    assert together < 0.06


def test_with_many_each_kind_is_known_as_it_is() -> None:
    x, kinds, groups = sample(80, count=80)
    shared = fit(x, figures(x, kinds), kinds, groups)
    unseen, own = everywhere(networks(40, 7))
    np.testing.assert_allclose(shared.predict(unseen, own), figures(unseen, own), rtol=0.01)
    for kind, quality in shared.quality.items():
        assert quality.mape < 0.01
        assert quality.count == 80
        assert quality.mae == pytest.approx(quality.mape * figures(x, kinds)[kinds == kind].mean(), rel=0.5)


def test_of_a_kind_with_too_few_nothing_is_said() -> None:
    x, kinds, groups = sample(12)
    keep = (kinds != 3) | (np.cumsum(kinds == 3) < MIN_OF_KIND)
    shared = fit(x[keep], figures(x, kinds)[keep], kinds[keep], groups[keep])
    assert shared.known == [0, 1, 2, 4]
    assert list(shared.quality) == [0, 1, 2, 4]


def test_one_kind_needs_no_more_columns() -> None:
    x = networks(30)
    kinds = np.full(30, 2)
    shared = fit(x, figures(x, kinds), kinds, np.arange(30))
    assert shared.predictor.names == NAMES
    np.testing.assert_allclose(shared.predict(x, kinds), figures(x, kinds), rtol=0.01)


def test_a_noisy_kind_has_wider_intervals() -> None:
    x, kinds, groups = sample(40, count=40)
    y = figures(x, kinds, 0.002)
    y[kinds == 1] = figures(x, kinds, 0.1, seed=1)[kinds == 1]
    shared = fit(x, y, kinds, groups)
    unseen, own = everywhere(networks(200, 5))
    lower, upper = shared.interval(unseen, own)
    width = (upper - lower) / shared.predict(unseen, own) / 2
    assert width[own == 1].min() > 5 * width[own != 1].max()
    spread = shared.spread(unseen, own) / shared.predict(unseen, own)
    assert spread[own == 1].min() > 5 * spread[own != 1].max()


def test_nine_tenths_of_a_kind_lie_in_its_intervals() -> None:
    inside = []
    for seed in range(6):
        x, kinds, groups = sample(40, seed, count=40)
        noisy = kinds == 1
        y = np.where(noisy, figures(x, kinds, 0.1, seed), figures(x, kinds, 0.01, seed))
        unseen, own = everywhere(networks(100, seed + 50))
        lower, upper = fit(x, y, kinds, groups).interval(unseen, own)
        again = np.where(own == 1, figures(unseen, own, 0.1, seed + 9), figures(unseen, own, 0.01, seed + 9))
        inside.append([((lower <= again) & (again <= upper))[own == kind].mean() for kind in range(KINDS)])
    assert (np.mean(inside, axis=0) > 0.82).all()


def test_save_and_load(tmp_path: Path) -> None:
    x, kinds, groups = sample(20)
    keep = kinds != 4
    shared = fit(x[keep], figures(x, kinds, 0.02)[keep], kinds[keep], groups[keep])
    shared.save(tmp_path, "latency", ["a"], {"device": "d"})
    again = Shared.load(tmp_path, "latency", {"device": "d"})
    unseen, own = everywhere(networks(10, 5))
    unseen, own = unseen[own != 4], own[own != 4]
    np.testing.assert_allclose(again.predict(unseen, own), shared.predict(unseen, own), rtol=1e-12)
    np.testing.assert_allclose(again.interval(unseen, own), shared.interval(unseen, own), rtol=1e-12)
    assert (again.known, again.quality) == (shared.known, shared.quality)
    with pytest.raises(BadInput, match="made for another device"):
        Shared.load(tmp_path, "latency", {"device": "e"})


@pytest.mark.parametrize(("value", "says"), [(np.nan, "is not a number"), (0.0, "must be more than 0")])
def test_what_is_no_figure(value: float, says: str) -> None:
    x, kinds, groups = sample(10)
    y = figures(x, kinds)
    y[3] = value
    with pytest.raises(BadInput, match=says):
        fit(x, y, kinds, groups)
