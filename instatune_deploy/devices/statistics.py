"""From single runs to figures: percentiles that are never optimistic, and how sure they are. NumPy is all it needs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from instatune_deploy.devices.latency import Limits

CONFIDENCE = 0.95


def percentile(runs_ms: Sequence[float] | NDArray[np.float64], share: float) -> float:
    """A run's own duration, numpy's method "higher": the one at index ceil(share * (n - 1)) of the n sorted runs.

    Never below the nearest-rank or the interpolated percentile of the same runs.
    """
    return float(np.quantile(np.asarray(runs_ms, dtype=np.float64), share, method="higher"))


def limits(runs_ms: Sequence[float] | NDArray[np.float64], share: float) -> Limits:
    """Confidence limits of a percentile from the order of the runs alone, whatever their distribution.

    Of n independent runs, B ~ Binomial(n, share) are faster than the true percentile. So the u-th fastest run is an upper
    limit with confidence P(B <= u - 1), the l-th a lower one with 1 - P(B <= l - 1). Taken are the smallest u and the
    largest l that reach 95%, each for itself. There is no such u when share ** n > 5% (p90: fewer than 29 runs, p99: fewer
    than 299); no such l leaves 0 ms as the lower limit. (Conover, Practical Nonparametric Statistics, 3.2)
    """
    ordered = np.sort(np.asarray(runs_ms, dtype=np.float64))
    count = len(ordered)
    at_most = binomial_cdf(count, share)
    upper_rank = int(np.searchsorted(at_most, CONFIDENCE, side="left")) + 1
    # the largest l with P(B <= l - 1) <= 5%
    lower_rank = int(np.searchsorted(at_most[:count], 1 - CONFIDENCE, side="right"))
    return Limits(
        lower_ms=float(ordered[lower_rank - 1]) if lower_rank >= 1 else 0.0,
        upper_ms=float(ordered[upper_rank - 1]) if upper_rank <= count else None,
    )


def binomial_cdf(count: int, share: float) -> NDArray[np.float64]:
    """P(B <= k) of B ~ Binomial(count, share) for k = 0 .. count: (count + 1,). ``share`` lies strictly between 0 and 1."""
    log_factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, count + 1)))])
    k = np.arange(count + 1)
    logs = log_factorials[-1] - log_factorials - log_factorials[::-1] + k * math.log(share) + k[::-1] * math.log1p(-share)
    return np.cumsum(np.exp(logs))


def spread(runs_ms: Sequence[float] | NDArray[np.float64]) -> float:
    """Inter-quartile range / median."""
    return (percentile(runs_ms, 0.75) - percentile(runs_ms, 0.25)) / percentile(runs_ms, 0.50)
