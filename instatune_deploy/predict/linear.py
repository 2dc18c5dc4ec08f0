"""A ridge regression that is plain numbers: what a linear predictor knows, as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

PENALTIES = np.logspace(-4, 3, 15)


@dataclass(frozen=True)
class Linear:
    """``intercept + ((x - mean) / scale) @ weights``; all but the intercept are (features,)."""

    mean: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    intercept: float

    @classmethod
    def fit(cls, x: np.ndarray, y: np.ndarray, importance: np.ndarray) -> Linear:
        """x: (n, features), y: (n,), importance: (n,) weight of each row. The penalty is chosen by leave-one-out."""
        from sklearn.linear_model import RidgeCV

        mean, scale = x.mean(axis=0), x.std(axis=0)
        scale = np.where(scale > 0, scale, 1.0)
        model = RidgeCV(PENALTIES).fit((x - mean) / scale, y, sample_weight=importance)
        return cls(mean, scale, np.asarray(model.coef_), float(model.intercept_))

    def predict(self, x: np.ndarray) -> np.ndarray:
        """(n, features) -> (n,)."""
        return np.asarray(self.intercept + ((x - self.mean) / self.scale) @ self.weights)

    def to_json(self) -> dict[str, Any]:
        """A JSON value; `from_json` gives the same predictor back."""
        arrays = {name: getattr(self, name).tolist() for name in ("mean", "scale", "weights")}
        return {**arrays, "intercept": self.intercept}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Linear:
        """The inverse of `to_json`."""
        mean, scale, weights = (np.array(value[name]) for name in ("mean", "scale", "weights"))
        return cls(mean, scale, weights, value["intercept"])
