"""Which points are on the front, and how much they cover."""

from __future__ import annotations

import numpy as np


def front(objectives: np.ndarray) -> np.ndarray:
    """Indices of the points of (n, m), to be minimised, that no other dominates, ordered by the first objective.

    Of equal points the first is taken.
    """
    from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

    if len(objectives) == 0:
        return np.empty(0, dtype=np.int64)
    _, first = np.unique(objectives, axis=0, return_index=True)
    first = np.sort(first)
    best = NonDominatedSorting().do(objectives[first], only_non_dominated_front=True)
    chosen = first[best]
    return np.asarray(chosen[np.lexsort((chosen, objectives[chosen, 0]))])


def hypervolume(objectives: np.ndarray, reference: np.ndarray) -> float:
    """Volume that the points of (n, m), to be minimised, dominate below ``reference``, (m,)."""
    from pymoo.indicators.hv import Hypervolume

    return float(Hypervolume(ref_point=reference)(objectives))
