"""A predictor: CatBoost on top of a linear model, from features to latency or accuracy, and how far off it may be.

Alone, CatBoost loses to a linear model on a few dozen measurements and wins on many. On top of one (its `baseline`), and with as
many trees as held-out measurements gain by, none at all among the choices, it hardly ever loses to either.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
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


@dataclass(frozen=True)
class Predictor:
    """Fitted on ``count`` measurements.

    trees:    how many of CatBoost's count: those that held-out measurements gain most by
    relative: errors are shares of what is predicted (latency), or in its unit (accuracy)
    errors:   (count,) what it was off by on each measurement when it had not seen it, in increasing order, without sign
    quality:  the same in figures

    The number of trees is chosen by the same errors, so they are a little too small, the less the more measurements there are.
    """

    linear: Linear
    boosted: CatBoostRegressor
    trees: int
    names: list[str]
    relative: bool
    errors: np.ndarray
    quality: Quality

    @property
    def count(self) -> int:
        """Measurements that it was made from."""
        return len(self.errors)

    @classmethod
    def fit(
        cls, x: np.ndarray, y: np.ndarray, names: list[str], *, relative: bool, seed: int, groups: np.ndarray | None = None
    ) -> Predictor:
        """x: (n, features); y: (n,) milliseconds or accuracy; groups: (n,) which network each is of, where one is measured
        several times: none is judged by itself.

        ``BadInput`` for too few or unusable measurements.
        """
        if len(y) < MIN_MEASUREMENTS:
            raise BadInput(f"a predictor needs at least {MIN_MEASUREMENTS} measurements; {MIN_MEASUREMENTS - len(y)} are missing")
        if not np.isfinite(x).all() or not np.isfinite(y).all():
            raise BadInput("a measurement is not a number; no predictor can be made from it")
        if relative and y.min() <= 0:
            raise BadInput(f"a latency must be more than 0 (found {y.min():g}); no predictor can be made from it")

        def staged(x: np.ndarray, y: np.ndarray, unseen: np.ndarray) -> np.ndarray:
            linear, boosted = _fitted(x, y, names, relative, seed)
            baseline, pool = linear.predict(unseen), Pool(unseen, feature_names=names)
            return np.array([baseline, *(baseline + more for more in boosted.staged_predict(pool, eval_period=STAGE))])

        guessed = held_out(staged, x, y, seed, groups)
        errors = np.abs(guessed - y) / (np.maximum(np.abs(guessed), 1e-9) if relative else 1.0)
        best = int(errors.mean(axis=1).argmin())
        how = quality(guessed[best], y)
        if groups is not None:
            how = replace(how, count=len(np.unique(groups)))
        return cls(*_fitted(x, y, names, relative, seed), best * STAGE, names, relative, np.sort(errors[best]), how)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """(n, features) -> (n,), in the unit it was fitted on."""
        predicted = self.linear.predict(x)
        if self.trees:  # CatBoost's own prediction leaves the baseline out
            predicted = predicted + self.boosted.predict(Pool(x, feature_names=self.names), ntree_end=self.trees)
        return np.asarray(predicted)

    def interval(self, x: np.ndarray, level: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
        """Between what a measurement of each will lie with probability ``level``: (n, features) -> lower and upper, (n,) each.

        Conformal (cross-conformal prediction; Vovk, 2015): as wide as the errors on held-out measurements were, whatever
        their distribution. Of n measurements at most n / (n + 1) can be said; for more the largest error stands.
        """
        predicted = self.predict(x)
        rank = math.ceil((self.count + 1) * level)
        width = float(self.errors[min(rank, self.count) - 1]) * self._scale(predicted)
        return predicted - width, predicted + width

    def spread(self, x: np.ndarray) -> np.ndarray:
        """Standard deviation of the error, (n, features) -> (n,), in the unit it was fitted on."""
        return float(np.sqrt(np.mean(self.errors**2))) * self._scale(self.predict(x))

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
            "errors": self.errors.tolist(),
            "quality": self.quality.to_json(),
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
            linear, errors = Linear.from_json(content["linear"]), np.array(content["errors"], dtype=float)
            how = Quality(**content["quality"])
            return cls(linear, boosted, content["trees"], content["features"], content["relative"], errors, how)
        except BadInput:
            raise
        except Exception as error:  # CatBoost raises an exception of its own, JSON and the file system theirs
            raise BadInput(f"{path}: not a predictor ({str(error).splitlines()[0]})") from error


def _fitted(x: np.ndarray, y: np.ndarray, names: list[str], relative: bool, seed: int) -> tuple[Linear, CatBoostRegressor]:
    importance = 1 / y**2 if relative else np.ones_like(y)
    importance = importance / importance.mean()
    linear = Linear.fit(x, y, importance)
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
