"""How good a predictor is, on measurements it has not seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

FOLDS = 5


@dataclass(frozen=True)
class Quality:
    """Held-out error over ``count`` measurements.

    mape: mean absolute error as a share of the value; mae: in its unit; tau: Kendall's rank correlation, 0 when all values
    are alike.
    """

    mape: float
    mae: float
    tau: float
    count: int

    def to_json(self) -> dict[str, Any]:
        """A JSON value."""
        return asdict(self)


def quality(predicted: np.ndarray, measured: np.ndarray) -> Quality:
    """predicted, measured: (n,)."""
    from scipy.stats import kendalltau

    error = np.abs(predicted - measured)
    tau = kendalltau(predicted, measured).statistic if len(measured) > 1 else 0.0
    return Quality(
        mape=float(np.mean(_shares(error, measured))),
        mae=float(error.mean()),
        tau=0.0 if np.isnan(tau) else float(tau),
        count=len(measured),
    )


def _shares(error: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Of what was measured; where that is 0 (nothing classified right), anything else is off by all of it."""
    known = np.where(measured == 0, 1.0, np.abs(measured))
    return np.asarray(np.where(measured == 0, np.sign(error), error / known))


def held_out(fit_predict: Callable[[np.ndarray, np.ndarray], np.ndarray], groups: np.ndarray, seed: int) -> np.ndarray:
    """Predictions by `FOLDS`-fold cross-validation, (..., n): of every measurement by a model that was fitted without it.

    fit_predict: (indices of the others, indices of the held-out) -> predictions of the held-out, (..., held-out); the
                 dimensions before may be several models
    groups:      (n,) int: measurements of one number are of one thing, and held out together
    """
    order = np.random.default_rng(seed).permutation(np.unique(groups))
    tests = [np.flatnonzero(np.isin(groups, order[fold::FOLDS])) for fold in range(FOLDS)]
    tests = [test for test in tests if len(test)]
    found = [fit_predict(np.setdiff1d(np.arange(len(groups)), test), test) for test in tests]
    predicted = np.empty((*found[0].shape[:-1], len(groups)))
    for test, values in zip(tests, found, strict=True):
        predicted[..., test] = values
    return predicted
