"""A predictor: CatBoost on top of a linear model, from features to latency or accuracy.

Alone, CatBoost loses to a linear model on a few dozen measurements and wins on many; on top of one (its `baseline`) it does
not lose.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from catboost import CatBoostRegressor, Pool

from instatune_deploy.errors import BadInput
from instatune_deploy.files import read_json, write_json
from instatune_deploy.predict.linear import Linear

MIN_MEASUREMENTS = 8
ITERATIONS = 200


@dataclass(frozen=True)
class Predictor:
    """Fitted on ``count`` measurements."""

    linear: Linear
    boosted: CatBoostRegressor
    names: list[str]
    count: int

    @classmethod
    def fit(cls, x: np.ndarray, y: np.ndarray, names: list[str], *, relative: bool, seed: int) -> Predictor:
        """x: (n, features); y: (n,) milliseconds or accuracy.

        relative: count errors in shares of the value (latency), not in its unit (accuracy). ``BadInput`` for too few or
        unusable measurements.
        """
        if len(y) < MIN_MEASUREMENTS:
            raise BadInput(f"a predictor needs at least {MIN_MEASUREMENTS} measurements; {MIN_MEASUREMENTS - len(y)} are missing")
        if not np.isfinite(x).all() or not np.isfinite(y).all():
            raise BadInput("a measurement is not a number; no predictor can be made from it")
        importance = 1 / y**2 if relative else np.ones_like(y)
        importance = importance / importance.mean()
        linear = Linear.fit(x, y, importance)
        baseline = linear.predict(x)
        boosted = CatBoostRegressor(
            iterations=ITERATIONS,
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
        boosted.fit(Pool(x, y, baseline=baseline, weight=importance, feature_names=names))
        return cls(linear, boosted, names, len(y))

    def predict(self, x: np.ndarray) -> np.ndarray:
        """(n, features) -> (n,), in the unit it was fitted on."""
        baseline = self.linear.predict(x)
        # CatBoost's own prediction leaves the baseline out
        return np.asarray(baseline + self.boosted.predict(Pool(x, feature_names=self.names)))

    def save(self, folder: Path, name: str, made_from: list[str]) -> None:
        """Write ``<name>.cbm`` and ``<name>.json``; ``made_from`` are the keys of the measurements."""
        folder.mkdir(parents=True, exist_ok=True)
        self.boosted.save_model(str(folder / f"{name}.cbm"))
        content: dict[str, Any] = {"features": self.names, "linear": self.linear.to_json(), "measurements": made_from}
        write_json(folder / f"{name}.json", content)

    @classmethod
    def load(cls, folder: Path, name: str) -> Predictor:
        """The inverse of `save`."""
        content = read_json(folder / f"{name}.json")
        boosted = CatBoostRegressor()
        boosted.load_model(str(folder / f"{name}.cbm"))
        return cls(Linear.from_json(content["linear"]), boosted, content["features"], len(content["measurements"]))
