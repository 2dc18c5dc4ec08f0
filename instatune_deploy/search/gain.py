"""Which candidates are worth measuring: those that, as far as predictors can say, add most to the front."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from instatune_deploy.search.pareto import front, hypervolume

DRAWS = 64
"""What each candidate might turn out to be, of two objectives; more of them take longer to judge."""
DRAWS_OF_MANY = 8


def most_gained(
    known: np.ndarray,
    mean: np.ndarray,
    spread: np.ndarray,
    reference: np.ndarray,
    count: int,
    rng: np.random.Generator,
    taken: Sequence[int] = (),
) -> list[int]:
    """Indices of at most ``count`` candidates, in the order of their expected gain of hypervolume, to be measured together.

    known: (k, m) measured objectives; mean, spread: (n, m) predicted ones and their standard deviation; reference: (m,)
    taken: candidates that are chosen in any case, before the others

    Greedy: each is chosen as if those before it came out as predicted (the "kriging believer" of Ginsbourger et al., 2010), so
    that a round does not measure the same thing many times over. One whose gain is nothing is not taken.
    """
    draws = rng.standard_normal((DRAWS if mean.shape[1] == 2 else DRAWS_OF_MANY, *mean.shape))
    drawn = mean + spread * draws
    chosen = list(taken)[:count]
    points = np.concatenate([known, mean[chosen]])
    while len(chosen) < min(count, len(mean)):
        expected = gains(points, drawn.reshape(-1, mean.shape[1]), reference).reshape(drawn.shape[:2]).mean(axis=0)
        expected[chosen] = 0.0
        best = int(expected.argmax())
        if expected[best] <= 0:
            break
        chosen.append(best)
        points = np.concatenate([points, mean[best : best + 1]])
    return chosen


def gains(known: np.ndarray, points: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """How much hypervolume each of ``points``, (n, m), alone would add to that of ``known``, (k, m): (n,)."""
    inside = known[(known < reference).all(axis=1)]
    best = inside[front(inside)]
    if points.shape[1] != 2:
        before = hypervolume(best, reference) if len(best) else 0.0
        return np.array([hypervolume(np.vstack([best, point]), reference) - before for point in points])
    # strips between neighbours of the front: within one, the front is at one height; before the first, at the reference's
    starts = np.concatenate([[-np.inf], best[:, 0]])
    ends = np.concatenate([best[:, 0], [reference[0]]])
    heights = np.concatenate([[reference[1]], best[:, 1]])
    widths = np.maximum(0.0, ends - np.maximum(starts, points[:, :1]))
    return np.asarray((widths * np.maximum(0.0, heights - points[:, 1:])).sum(axis=1))
