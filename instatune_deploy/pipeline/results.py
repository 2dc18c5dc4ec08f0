"""What a search found: points, their front, and which of them keep a budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

import numpy as np

from instatune_deploy.budget import Budget
from instatune_deploy.config import ObjectiveName, Statistic
from instatune_deploy.devices.runs import Run
from instatune_deploy.errors import NoArchitectureFits
from instatune_deploy.pipeline.bench import Point
from instatune_deploy.pipeline.objectives import DEFAULT, OBJECTIVES, chosen_by, latency_ms, objectives
from instatune_deploy.predict.quality import Quality
from instatune_deploy.search.pareto import front
from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.words import counted

NEAREST = 3
"""So many are named when nothing keeps a budget."""


@dataclass(frozen=True)
class Promise:
    """What predictors said of a deployment before it was measured, and between what a measurement lies 90 times of 100."""

    latency_ms: float
    accuracy: float
    latency_within_ms: tuple[float, float]
    accuracy_within: tuple[float, float]

    def to_json(self) -> dict[str, Any]:
        """A JSON value; `from_json` gives the same Promise back."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Promise:
        """The inverse of `to_json`."""
        within = {name: tuple(value[name]) for name in ("latency_within_ms", "accuracy_within")}
        return cls(value["latency_ms"], value["accuracy"], **within)


@dataclass
class SearchResult:
    """What a search found on one device.

    points:    everything measured, in order
    names:     what the front is of
    predicted: of deployments that were measured because of what predictors said
    volumes:   hypervolume of the measured front after every round
    latency_quality, accuracy_quality: held-out error of the final predictors, latency's by run
    noise:     how far, in the median, a measured latency may be from the true one (half its confidence interval, a share)
    """

    points: list[Point]
    predicted: dict[tuple[Architecture, Run], Promise] = field(default_factory=dict)
    volumes: list[float] = field(default_factory=list)
    latency_quality: dict[str, Quality] = field(default_factory=dict)
    accuracy_quality: Quality | None = None
    noise: float = 0.0
    names: tuple[ObjectiveName, ...] = DEFAULT

    def front(self, statistic: Statistic) -> list[Point]:
        """The measured points that no other beats in all objectives, fastest first."""
        best = [self.points[index] for index in front(objectives(self.points, statistic, self.names))]
        return sorted(best, key=lambda point: latency_ms(point, statistic))


def quality_lines(result: SearchResult) -> list[str]:
    """The predictors' held-out error in words, next to the measurements' own noise."""
    lines = [
        f"latency predictor, {run}: held-out error {item.mape:.1%} (Kendall tau {item.tau:.2f}, {item.count} measurements); "
        f"the measurements' own noise: {result.noise:.1%}"
        for run, item in result.latency_quality.items()
    ]
    if result.accuracy_quality is not None:
        item = result.accuracy_quality
        lines.append(
            f"accuracy predictor: held-out error {item.mae * 100:.2f} points (Kendall tau {item.tau:.2f}, {item.count} networks)"
        )
    return lines


def honesty_lines(result: SearchResult, statistic: Statistic) -> list[str]:
    """How far what was predicted and what was then measured were apart, in words; none when nothing was predicted first."""
    pairs = [
        (promise, latency_ms(point, statistic), point.accuracy)
        for point in result.points
        if (promise := result.predicted.get((point.architecture, point.run))) is not None
    ]
    if not pairs:
        return []
    off = sorted(abs(promise.latency_ms / took - 1) for promise, took, _ in pairs)
    points_off = sorted(100 * abs(promise.accuracy - right) for promise, _, right in pairs)
    fast = sum(promise.latency_within_ms[0] <= took <= promise.latency_within_ms[1] for promise, took, _ in pairs)
    accurate = sum(promise.accuracy_within[0] <= right <= promise.accuracy_within[1] for promise, _, right in pairs)
    return [
        f"predicted, then measured: {counted(len(pairs), 'deployment')}; latency off by {median(off):.1%} (at most "
        f"{off[-1]:.1%}; {fast} within the 90% interval), accuracy by {median(points_off):.2f} points (at most "
        f"{points_off[-1]:.2f}; {accurate} within)"
    ]


def keeps(point: Point, budget: Budget | None, statistic: Statistic) -> bool:
    """Whether a point is within the budget as it was measured, the upper confidence limit of its latency included."""
    return budget is None or exceeded(point, budget, statistic) <= 0


def exceeded(point: Point, budget: Budget, statistic: Statistic) -> float:
    """By which share a point exceeds the budget where it is farthest off it; at most 0 when it keeps it."""
    shares = [
        *(upper_ms(point, of) / limit_ms for of, limit_ms in budget.latencies_ms(statistic).items()),
        None if budget.size_bytes is None else point.measurement.size_bytes / budget.size_bytes,
        None if budget.memory_bytes is None else (point.measurement.memory_bytes or np.inf) / budget.memory_bytes,
        None if budget.macs is None else point.macs / budget.macs,
        None if budget.accuracy is None else budget.accuracy / max(point.accuracy, 1e-9),
    ]
    return max(share for share in shares if share is not None) - 1


def upper_ms(point: Point, statistic: Statistic) -> float:
    """What the point's latency stays below with 95% confidence; the slowest run where there were too few to say: of an older
    measurement, or by a protocol of the user's own."""
    timing = point.measurement.timing
    assert timing is not None
    upper = timing.limits[statistic].upper_ms
    return timing.max_ms if upper is None else upper


def ranked(result: SearchResult, budget: Budget | None, statistic: Statistic) -> list[Point]:
    """The measured points that keep the budget, most accurate first, the faster of equals; where the budget says how accurate
    they must be, or accuracy is none of the objectives, those first that are best in the first of the other objectives: the
    fastest, unless latency is none.

    ``NoArchitectureFits`` names the nearest and what budget would do.
    """
    fitting = [point for point in result.points if keeps(point, budget, statistic)]
    if not fitting:
        raise no_architecture_fits(result, budget, statistic)
    if (budget is not None and budget.accuracy is not None) or "accuracy" not in result.names:
        first = OBJECTIVES[chosen_by(budget, result.names)]
        return sorted(fitting, key=lambda point: (first.of(point, statistic), -point.accuracy))
    return sorted(fitting, key=lambda point: (-point.accuracy, latency_ms(point, statistic)))


def no_architecture_fits(result: SearchResult, budget: Budget | None, statistic: Statistic) -> NoArchitectureFits:
    """The error that says what would be possible."""
    assert budget is not None
    nearest = nearest_to(result, budget, statistic)
    would_do = ""
    if budget == Budget(budget.limit_ms, budget.statistic):  # nothing but a latency
        # one decimal more than the latency has, rounded up: a budget that is sure to do
        enough = float(np.ceil(upper_ms(nearest[0], statistic) * 1.05 * 100) / 100)
        would_do = f"; a budget of {Budget(enough, budget.statistic)} would do"
    lines = lines_of(nearest, statistic)
    return NoArchitectureFits(
        "\n".join([f"nothing keeps {budget}{would_do}. The nearest of {len(result.points)} measured:", *lines])
    )


def nearest_to(result: SearchResult, budget: Budget, statistic: Statistic) -> list[Point]:
    """The `NEAREST` measured points that exceed a budget least."""
    return sorted(result.points, key=lambda point: exceeded(point, budget, statistic))[:NEAREST]


def lines_of(points: Sequence[Point], statistic: Statistic) -> list[str]:
    """A line for each: everything that a budget may limit, and what it is."""
    return [f"  {_said(point, statistic)}: {point.architecture}; {point.run}" for point in points]


def _said(point: Point, statistic: Statistic) -> str:
    """Everything that a budget may limit."""
    memory_bytes = point.measurement.memory_bytes
    return ", ".join(
        [
            f"{latency_ms(point, statistic):.2f} ms ({statistic})",
            f"{point.accuracy:.1%} accurate",
            f"{point.measurement.size_bytes / 1e6:.1f} MB",
            *([] if memory_bytes is None else [f"{memory_bytes / 1e6:.0f} MB of memory"]),
            f"{point.macs / 1e9:.2f} G MACs",
        ]
    )


def noise_of(point: Point, statistic: Statistic) -> float:
    timing = point.measurement.timing
    assert timing is not None
    return (upper_ms(point, statistic) - timing.limits[statistic].lower_ms) / 2 / timing.statistic_ms(statistic)
