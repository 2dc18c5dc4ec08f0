"""Latency in figures: what a measurement says of one inference. Plain data; nothing here needs any other package."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

SHARES = {"p50": 0.50, "p90": 0.90, "p99": 0.99}
"""The statistics a budget can mean, and the share of runs that are at least as fast."""


@dataclass(frozen=True)
class Limits:
    """Between these the true percentile lies: above ``lower_ms`` with 95% confidence, below ``upper_ms`` likewise.

    ``upper_ms`` is None where too few runs were made to say (see `statistics.limits`).
    """

    lower_ms: float
    upper_ms: float | None


@dataclass(frozen=True)
class Timing:
    """Latency of one inference, over all runs of the three windows that were accepted.

    spread:               inter-quartile range / median
    count:                runs behind these figures
    windows:              windows that were measured after the warm-up, those thrown away among them
    stable:               whether the last three agreed; if not, the figures are theirs all the same, and not to be believed
    involuntary_switches: how often the system took a processor from this process in those three windows
    limits:               of each percentile
    thrown:               windows thrown away: the host changed its speed in them, or others used its processors
    reference_ms:         median of the reference model around the accepted windows; None when there was no reference
    nominal_ms:           what the reference takes on this host when it is quiet: every run was multiplied by nominal / reference
    seconds:              the whole measurement took, and of it were spent in timed windows (`timed_seconds`)
    """

    p50_ms: float
    p90_ms: float
    p99_ms: float
    mean_ms: float
    max_ms: float
    spread: float
    count: int
    windows: int
    stable: bool
    involuntary_switches: int
    limits: dict[str, Limits]
    thrown: int = 0
    reference_ms: float | None = None
    nominal_ms: float | None = None
    seconds: float = 0.0
    timed_seconds: float = 0.0

    @property
    def drift(self) -> float:
        """How much slower this host was than when it is quiet, as a factor; 1.0 where no reference says so."""
        if self.reference_ms is None or self.nominal_ms is None:
            return 1.0
        return self.reference_ms / self.nominal_ms

    def statistic_ms(self, statistic: str) -> float:
        """The percentile that ``statistic`` names."""
        return {"p50": self.p50_ms, "p90": self.p90_ms, "p99": self.p99_ms}[statistic]

    def upper_ms(self, statistic: str) -> float:
        """What the percentile stays below with 95% confidence; infinity where too few runs were made to say."""
        upper = self.limits[statistic].upper_ms
        return math.inf if upper is None else upper

    def on_nominal(self, nominal_ms: float) -> Timing:
        """The same measurement on another nominal speed of the host. Without a reference nothing can be said: unchanged."""
        if self.nominal_ms is None or nominal_ms == self.nominal_ms:
            return self
        factor = nominal_ms / self.nominal_ms
        scaled = {item.name: getattr(self, item.name) * factor for item in fields(self) if item.name in RUN_FIELDS}
        limits = {
            name: Limits(item.lower_ms * factor, None if item.upper_ms is None else item.upper_ms * factor)
            for name, item in self.limits.items()
        }
        return replace(self, **scaled, limits=limits, nominal_ms=nominal_ms)

    def to_json(self) -> dict[str, Any]:
        """A JSON value."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Timing:
        """The inverse of `to_json`; TypeError when a key is missing or not known."""
        return cls(**{**value, "limits": {name: Limits(**item) for name, item in value["limits"].items()}})


RUN_FIELDS = {"p50_ms", "p90_ms", "p99_ms", "mean_ms", "max_ms"}
