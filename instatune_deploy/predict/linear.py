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
    def fit(
        cls,
        x: np.ndarray,
        y: np.ndarray,
        importance: np.ndarray,
        groups: np.ndarray | None = None,
        factors: np.ndarray | None = None,
    ) -> Linear:
        """x: (n, features), y: (n,), importance: (n,) weight of each row in the error.

        The penalty is the one with which rows are predicted best that were left out: one after the other, or, where ``groups``
        (n,) says which belong together, group after group. factors: (features,), how freely each may be used beside the others
        (at 0.5 its weight costs four times as much); all alike when not given
        """
        mean, scale = _standard(x, factors)
        weights, intercept, _ = _ridge((x - mean) / scale, y, importance, np.arange(len(y)) if groups is None else groups)
        return cls(mean, scale, weights, intercept)

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


def left_out_error(
    x: np.ndarray, y: np.ndarray, importance: np.ndarray, groups: np.ndarray, factors: np.ndarray | None = None
) -> float:
    """The weighted squared error of `Linear.fit`, mean over the rows, on groups that were left out; with its best penalty."""
    mean, scale = _standard(x, factors)
    return _ridge((x - mean) / scale, y, importance, groups)[2]


def _standard(x: np.ndarray, factors: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Mean and scale of each column, (features,) both; the larger a factor, the larger the column when it was divided."""
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    return mean, np.where(deviation > 0, deviation, 1.0) / (1.0 if factors is None else factors)


def _ridge(x: np.ndarray, y: np.ndarray, importance: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Weights, (features,), and intercept, which is not penalised, of the best of `PENALTIES`; and its error.

    In closed form, for every penalty at once: with H, the matrix that makes fitted values of what was measured, the residuals
    of a group G that was left out are (I - H_GG)^-1 times those of the fit to everything.
    """
    root = np.sqrt(importance)
    total = importance.sum()
    x_mean, y_mean = importance @ x / total, importance @ y / total
    u, singular, v = np.linalg.svd(root[:, None] * (x - x_mean), full_matrices=False)
    target = root * (y - y_mean)
    rotated = u.T @ target
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    unpenalised = np.outer(root, root) / total
    errors = []
    for penalty in PENALTIES:
        kept = singular**2 / (singular**2 + penalty)
        residual = target - u @ (kept * rotated)
        smoother = unpenalised + (u * kept) @ u.T
        error = 0.0
        for rows in members:
            block = np.eye(len(rows)) - smoother[np.ix_(rows, rows)]
            # of a group that alone holds something, nothing is known without it: the least squares answer
            error += float(np.sum(np.linalg.lstsq(block, residual[rows], rcond=None)[0] ** 2))
        errors.append(error / len(y))
    best = int(np.argmin(errors))
    weights = v.T @ (singular / (singular**2 + PENALTIES[best]) * rotated)
    return weights, float(y_mean - x_mean @ weights), errors[best]
