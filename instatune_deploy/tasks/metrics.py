"""How often a classifier is right."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

TOP = 5
"""So many guesses are counted beside the first one."""


def accuracy(logits: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """The fraction (0 .. 1) of rows whose largest logit is their class. ``logits``: (rows, classes), ``labels``: (rows,)."""
    scores, truth = _checked(logits, labels)
    return float(np.mean(scores.argmax(axis=1) == truth))


def top_k_accuracy(logits: npt.ArrayLike, labels: npt.ArrayLike, k: int) -> float:
    """The fraction (0 .. 1) of rows whose class is among those of the ``k`` largest logits, shapes as in `accuracy`.

    Of equal logits the first counts as the larger one, as in `accuracy`, which is the same for ``k`` = 1. A row whose class has
    no number as logit is wrong.
    """
    if k < 1:
        raise ValueError(f"k is {k}, expected 1 or more")
    scores, truth = _checked(logits, labels)
    own = np.take_along_axis(scores, truth[:, None], axis=1)
    before = np.arange(scores.shape[1]) < truth[:, None]
    ahead = ~(scores <= own) | ((scores == own) & before)  # said so, NaN is ahead of everything
    return float(np.mean(ahead.sum(axis=1) < min(k, scores.shape[1])))


def _checked(logits: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    scores, truth = np.asarray(logits), np.asarray(labels)
    if scores.ndim != 2 or truth.shape != scores.shape[:1] or truth.size == 0:
        raise ValueError(f"logits {scores.shape} and labels {truth.shape} are not (rows, classes) and (rows,) with rows > 0")
    return scores, truth
