"""A predictor: CatBoost on top of a linear model, from features to latency or accuracy, and how far off it may be.

Alone, CatBoost loses to a linear model on a few dozen measurements and wins on many. On top of one (its `baseline`), and with as
many trees as held-out measurements gain by, none at all among the choices, it hardly ever loses to either.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from catboost import CatBoostRegressor, Pool

from instatune_deploy.errors import BadInput
from instatune_deploy.files import read_json, write_json
from instatune_deploy.predict.linear import Linear
from instatune_deploy.predict.quality import Quality, held_out, quality

MIN_MEASUREMENTS = 8
STAGE = 10
"""How many trees are tried is a multiple of it."""
STAGES = 20
OWN_ERRORS = 20
"""So many errors of one kind say how wide its intervals are; of fewer, all errors together say it."""


@dataclass(frozen=True)
class Judged:
    """What a predictor was off by on measurements that it had not seen: in increasing order, without sign, and in figures."""

    errors: np.ndarray
    quality: Quality

    def width(self, level: float) -> float:
        """What an error stays below with probability ``level``."""
        networks, rows = self.quality.count, len(self.errors)
        # of several measurements of one network one says little more than another: it is networks that count
        rank = -(-min(math.ceil((networks + 1) * level), networks) * rows // networks)
        return float(self.errors[rank - 1])

    def deviation(self) -> float:
        """Standard deviation."""
        return float(np.sqrt(np.mean(self.errors**2)))

    def to_json(self) -> dict[str, Any]:
        """A JSON value; `from_json` gives the same back."""
        return {"errors": self.errors.tolist(), "quality": self.quality.to_json()}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Judged:
        """The inverse of `to_json`."""
        return cls(np.array(value["errors"], dtype=float), Quality(**value["quality"]))


@dataclass(frozen=True)
class Predictor:
    """Fitted on ``count`` measurements.

    trees:    how many of CatBoost's count: those that held-out measurements gain most by
    relative: errors are shares of what is predicted (latency), or in its unit (accuracy)
    judged:   what it was off by on its measurements when it had not seen them
    by_kind:  the same for each kind of measurement

    The number of trees is chosen by the same errors, so they are a little too small, the less the more measurements there are.
    """

    linear: Linear
    boosted: CatBoostRegressor
    trees: int
    names: list[str]
    relative: bool
    judged: Judged
    by_kind: dict[int, Judged] = field(default_factory=dict)

    @property
    def errors(self) -> np.ndarray:
        """(count,) what it was off by on each, in increasing order, without sign."""
        return self.judged.errors

    @property
    def quality(self) -> Quality:
        """The same in figures."""
        return self.judged.quality

    @property
    def count(self) -> int:
        """Measurements that it was made from."""
        return len(self.errors)

    @classmethod
    def fit(
        cls,
        x: np.ndarray,
        y: np.ndarray,
        names: list[str],
        *,
        relative: bool,
        seed: int,
        groups: np.ndarray | None = None,
        kinds: np.ndarray | None = None,
        factors: np.ndarray | None = None,
    ) -> Predictor:
        """x: (n, features); y: (n,) milliseconds or accuracy; groups: (n,) which network each is of, where one is measured
        several times: none is judged by itself; kinds: (n,) int, what each is to be judged with; factors: see `Linear.fit`.

        ``BadInput`` for too few or unusable measurements.
        """
        each = np.arange(len(y)) if groups is None else groups
        if len(y) < MIN_MEASUREMENTS:
            raise BadInput(f"a predictor needs at least {MIN_MEASUREMENTS} measurements; {MIN_MEASUREMENTS - len(y)} are missing")
        if not np.isfinite(x).all() or not np.isfinite(y).all():
            raise BadInput("a measurement is not a number; no predictor can be made from it")
        if relative and y.min() <= 0:
            raise BadInput(f"a latency must be more than 0 (found {y.min():g}); no predictor can be made from it")

        def fitted(rows: np.ndarray) -> tuple[Linear, CatBoostRegressor]:
            return _fitted(x[rows], y[rows], names, relative, seed, each[rows], factors)

        def staged(seen: np.ndarray, unseen: np.ndarray) -> np.ndarray:
            linear, boosted = fitted(seen)
            baseline, pool = linear.predict(x[unseen]), Pool(x[unseen], feature_names=names)
            return np.array([baseline, *(baseline + more for more in boosted.staged_predict(pool, eval_period=STAGE))])

        guessed = held_out(staged, each, seed)
        errors = np.abs(guessed - y) / (np.maximum(np.abs(guessed), 1e-9) if relative else 1.0)
        best = int(errors.mean(axis=1).argmin())

        def judged(rows: np.ndarray) -> Judged:
            how = replace(quality(guessed[best, rows], y[rows]), count=len(np.unique(each[rows])))
            return Judged(np.sort(errors[best, rows]), how)

        every = np.arange(len(y))
        of_kinds = {} if kinds is None else {int(kind): judged(np.flatnonzero(kinds == kind)) for kind in np.unique(kinds)}
        return cls(*fitted(every), best * STAGE, names, relative, judged(every), of_kinds)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """(n, features) -> (n,), in the unit it was fitted on."""
        predicted = self.linear.predict(x)
        if self.trees:  # CatBoost's own prediction leaves the baseline out
            predicted = predicted + self.boosted.predict(Pool(x, feature_names=self.names), ntree_end=self.trees)
        return np.asarray(predicted)

    def interval(self, x: np.ndarray, level: float = 0.9, kinds: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Between what a measurement of each will lie with probability ``level``: (n, features) -> lower and upper, (n,) each.

        Conformal (cross-conformal prediction; Vovk, 2015): as wide as the errors on held-out measurements were, whatever
        their distribution; where ``kinds`` (n,) says of which kind each is, those of its own kind, if there are
        `OWN_ERRORS` of them. Of n networks at most n / (n + 1) can be said; for more the largest error stands.
        """
        predicted = self.predict(x)
        width = self._of_kind(lambda found: found.width(level), kinds, len(x)) * self._scale(predicted)
        return predicted - width, predicted + width

    def spread(self, x: np.ndarray, kinds: np.ndarray | None = None) -> np.ndarray:
        """Standard deviation of the error, (n, features) -> (n,), in the unit it was fitted on; kinds: as in `interval`."""
        return self._of_kind(Judged.deviation, kinds, len(x)) * self._scale(self.predict(x))

    def _of_kind(self, tell: Callable[[Judged], float], kinds: np.ndarray | None, count: int) -> np.ndarray:
        """A figure of the errors for each, (count,): of its own kind's where there are enough, else of all."""
        found = np.full(count, tell(self.judged))
        for kind, own in self.by_kind.items() if kinds is not None else ():
            if len(own.errors) >= OWN_ERRORS:
                found[kinds == kind] = tell(own)
        return found

    def _scale(self, predicted: np.ndarray) -> np.ndarray:
        return np.abs(predicted) if self.relative else np.ones_like(predicted)

    def save(self, folder: Path, name: str, made_from: list[str], made_for: Mapping[str, Any]) -> None:
        """Write ``<name>.cbm`` and ``<name>.json``.

        made_from: keys of the measurements; made_for: a JSON value, what it may be used for (device, space, ...)
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.boosted.save_model(str(folder / f"{name}.cbm"))
        content: dict[str, Any] = {
            "made_for": dict(made_for),
            "features": self.names,
            "linear": self.linear.to_json(),
            "trees": self.trees,
            "relative": self.relative,
            **self.judged.to_json(),
            "by_kind": {str(kind): own.to_json() for kind, own in self.by_kind.items()},
            "measurements": made_from,
        }
        write_json(folder / f"{name}.json", content)

    @classmethod
    def load(cls, folder: Path, name: str, made_for: Mapping[str, Any]) -> Predictor:
        """The inverse of `save`. ``BadInput`` for what is no predictor, or one that was made for something else."""
        path = folder / f"{name}.json"
        try:
            content = read_json(path)
            found: dict[str, Any] = content["made_for"]
            other = [key for key in made_for if found.get(key) != made_for[key]]
            if other:
                key = other[0]
                raise BadInput(f"{path}: made for another {key} ({_short(found.get(key))}, not {_short(made_for[key])})")
            boosted = CatBoostRegressor()
            boosted.load_model(str(folder / f"{name}.cbm"))
            linear, judged = Linear.from_json(content["linear"]), Judged.from_json(content)
            by_kind = {int(kind): Judged.from_json(own) for kind, own in content["by_kind"].items()}
            return cls(linear, boosted, content["trees"], content["features"], content["relative"], judged, by_kind)
        except BadInput:
            raise
        except Exception as error:  # CatBoost raises an exception of its own, JSON and the file system theirs
            raise BadInput(f"{path}: not a predictor ({str(error).splitlines()[0]})") from error


def importance_of(y: np.ndarray, relative: bool) -> np.ndarray:
    """(n,) how much each error counts, 1 in the mean: by its share of the value, or all alike."""
    weights = 1 / y**2 if relative else np.ones_like(y)
    return np.asarray(weights / weights.mean())


def _fitted(
    x: np.ndarray,
    y: np.ndarray,
    names: list[str],
    relative: bool,
    seed: int,
    groups: np.ndarray,
    factors: np.ndarray | None,
) -> tuple[Linear, CatBoostRegressor]:
    importance = importance_of(y, relative)
    linear = Linear.fit(x, y, importance, groups, factors)
    boosted = CatBoostRegressor(
        iterations=STAGE * STAGES,
        depth=4,
        learning_rate=0.05,
        l2_leaf_reg=10,
        random_seed=seed,
        thread_count=1,  # the same trees whatever the machine
        boost_from_average=False,
        allow_const_label=True,
        allow_writing_files=False,
        verbose=False,
    )
    boosted.fit(Pool(x, y, baseline=linear.predict(x), weight=importance, feature_names=names))
    return linear, boosted


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
