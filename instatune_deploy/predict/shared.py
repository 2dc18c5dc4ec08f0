"""One predictor for several kinds of measurement of the same networks, such as every way of running them on a device.

What one kind says of a network says much of the others too. So there is one line for all, in units in which all kinds cost about
the same, and each kind has deviations of its own from it, as far as measurements that were held out gain by them (multi-task
regularisation: Evgeniou and Pontil, 2004); CatBoost on top sees what tells the kinds apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from instatune_deploy.files import read_json, write_json
from instatune_deploy.predict.linear import left_out_error
from instatune_deploy.predict.predictor import Predictor, importance_of
from instatune_deploy.predict.quality import Quality

MIN_OF_KIND = 3
"""Of a kind with fewer measurements nothing is said."""
SHARES = (0.1, 0.3, 1.0)
"""How freely a kind deviates from the line of all, beside the line itself; the best is taken."""


@dataclass(frozen=True)
class Columns:
    """What the predictor sees of a measurement.

    scales:    (kinds,) the unit of each kind; not a number for one of which nothing is said
    described: (kinds, d) what tells the kinds apart
    mean, deviation: (features,) of what it was fitted on
    """

    scales: np.ndarray
    described: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, y: np.ndarray, kinds: np.ndarray, cost: np.ndarray, described: np.ndarray) -> Columns:
        """Those of the given measurements, all of kinds that are to be known."""
        scales = np.full(len(described), np.nan)
        sound = np.isfinite(y) & (y > 0)  # what is no figure is refused later; here it must not disturb
        for kind in np.unique(kinds):
            of_kind = (kinds == kind) & sound
            scales[kind] = np.exp(np.mean(np.log(y[of_kind] / cost[of_kind]))) if of_kind.any() else 1.0
        mean, deviation = (x.mean(axis=0), x.std(axis=0)) if len(x) else (np.zeros(x.shape[1]), np.ones(x.shape[1]))
        return cls(scales, described, mean, np.where(deviation > 0, deviation, 1.0))

    @property
    def known(self) -> list[int]:
        """Kinds of which something is said."""
        return [int(kind) for kind in np.flatnonzero(np.isfinite(self.scales))]

    @property
    def own(self) -> int:
        """How many columns, the last ones, are of one kind alone."""
        return len(self.known) * len(self.mean) if len(self.known) > 1 else 0

    def design(self, x: np.ndarray, kinds: np.ndarray) -> np.ndarray:
        """Of one kind the features; of several also which kind it is, and the features once more for each, 0 in the others."""
        if not self.own:
            return x
        centred = (x - self.mean) / self.deviation
        of_kind = kinds[:, None] == np.array(self.known)
        apart = (centred[:, None, :] * of_kind[:, :, None]).reshape(len(x), -1)
        return np.column_stack([x, self.described[kinds], of_kind, apart])

    def names(self, features: list[str], descriptions: list[str]) -> list[str]:
        """Of the columns of `design`."""
        if not self.own:
            return features
        apart = [f"{name} of kind {kind}" for kind in self.known for name in features]
        return [*features, *descriptions, *(f"kind {kind}" for kind in self.known), *apart]

    def factors(self, count: int, share: float) -> np.ndarray:
        """How freely each of ``count`` columns is used: those of one kind alone less."""
        return np.where(np.arange(count) < count - self.own, 1.0, share)

    def to_json(self) -> dict[str, Any]:
        """A JSON value; `from_json` gives the same back."""
        scales = [None if np.isnan(scale) else float(scale) for scale in self.scales]
        return {"scales": scales, **{name: getattr(self, name).tolist() for name in ("described", "mean", "deviation")}}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Columns:
        """The inverse of `to_json`."""
        scales = np.array([np.nan if scale is None else scale for scale in value["scales"]], dtype=float)
        return cls(scales, *(np.array(value[name], dtype=float) for name in ("described", "mean", "deviation")))


@dataclass(frozen=True)
class Shared:
    """Predicts positive figures, such as milliseconds, whose errors count as shares of them."""

    predictor: Predictor
    columns: Columns

    @classmethod
    def fit(
        cls,
        x: np.ndarray,
        y: np.ndarray,
        kinds: np.ndarray,
        names: list[str],
        *,
        cost: np.ndarray,
        described: np.ndarray,
        descriptions: list[str],
        groups: np.ndarray,
        seed: int,
    ) -> Shared:
        """x: (n, features), y: (n,), kinds: (n,) int; names: of the features

        cost: (n,) about what each costs in any unit, to find the kinds' units by; described: (kinds, d), ``descriptions`` are
        its names; groups: (n,) which network each is of. ``BadInput`` as in `Predictor.fit`.
        """
        usable = np.bincount(kinds, minlength=len(described))[kinds] >= MIN_OF_KIND
        x, y, kinds, cost, groups = x[usable], y[usable], kinds[usable], cost[usable], groups[usable]
        columns = Columns.of(x, y, kinds, cost, described)
        design, target = columns.design(x, kinds), y / columns.scales[kinds]
        factors = None
        if columns.own and np.isfinite(target).all() and (target > 0).all():
            candidates = [columns.factors(design.shape[1], share) for share in SHARES]
            importance = importance_of(target, relative=True)
            factors = min(candidates, key=lambda item: left_out_error(design, target, importance, groups, item))
        told = columns.names(names, descriptions)
        made_from = {"groups": groups, "kinds": kinds, "factors": factors}
        return cls(Predictor.fit(design, target, told, relative=True, seed=seed, **made_from), columns)

    @property
    def known(self) -> list[int]:
        """Kinds of which something is said."""
        return self.columns.known

    @property
    def quality(self) -> dict[int, Quality]:
        """How good it is on what it has not seen, by kind; absolute errors in the kind's unit."""
        scales = self.columns.scales
        return {
            kind: replace(judged.quality, mae=float(judged.quality.mae * scales[kind]))
            for kind, judged in self.predictor.by_kind.items()
        }

    def predict(self, x: np.ndarray, kinds: np.ndarray) -> np.ndarray:
        """(n, features) and (n,) known kinds -> (n,)."""
        return np.asarray(self.predictor.predict(self.columns.design(x, kinds)) * self.columns.scales[kinds])

    def interval(self, x: np.ndarray, kinds: np.ndarray, level: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
        """As `Predictor.interval`."""
        lower, upper = self.predictor.interval(self.columns.design(x, kinds), level, kinds)
        return lower * self.columns.scales[kinds], upper * self.columns.scales[kinds]

    def spread(self, x: np.ndarray, kinds: np.ndarray) -> np.ndarray:
        """As `Predictor.spread`."""
        return np.asarray(self.predictor.spread(self.columns.design(x, kinds), kinds) * self.columns.scales[kinds])

    def save(self, folder: Path, name: str, made_from: list[str], made_for: Mapping[str, Any]) -> None:
        """Write ``<name>.cbm``, ``<name>.json`` (as `Predictor.save`) and ``<name>-columns.json``."""
        self.predictor.save(folder, name, made_from, made_for)
        write_json(folder / f"{name}-columns.json", self.columns.to_json())

    @classmethod
    def load(cls, folder: Path, name: str, made_for: Mapping[str, Any]) -> Shared:
        """The inverse of `save`. ``BadInput`` as in `Predictor.load`."""
        return cls(Predictor.load(folder, name, made_for), Columns.from_json(read_json(folder / f"{name}-columns.json")))
