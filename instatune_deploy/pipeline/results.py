"""What a search found: points, their front, and which of them keep a budget."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from instatune_deploy.budget import Budget
from instatune_deploy.config import Statistic
from instatune_deploy.devices.runs import Run
from instatune_deploy.errors import NoArchitectureFits
from instatune_deploy.pipeline.bench import Point
from instatune_deploy.predict.quality import Quality
from instatune_deploy.search.pareto import front
from instatune_deploy.supernet.architecture import Architecture

NEAREST = 3
"""So many are named when nothing keeps a budget."""


@dataclass
class SearchResult:
    """What a search found on one device.

    points:    everything measured, in order
    predicted: latency (ms) and accuracy that the predictors said of a deployment before it was measured
    volumes:   hypervolume of the measured front after every round
    latency_quality, accuracy_quality: held-out error of the final predictors, latency's by run
    noise:     how far, in the median, a measured latency may be from the true one (half its confidence interval, a share)
    """

    points: list[Point]
    predicted: dict[tuple[Architecture, Run], tuple[float, float]] = field(default_factory=dict)
    volumes: list[float] = field(default_factory=list)
    latency_quality: dict[str, Quality] = field(default_factory=dict)
    accuracy_quality: Quality | None = None
    noise: float = 0.0

    def front(self, statistic: Statistic) -> list[Point]:
        """The measured points that no other beats in both latency and accuracy, fastest first."""
        return [self.points[index] for index in front(objectives(self.points, statistic))]


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


def latency_ms(point: Point, statistic: Statistic) -> float:
    """Measured latency of a point."""
    assert point.measurement.timing is not None
    return point.measurement.timing.statistic_ms(statistic)


def keeps(point: Point, budget: Budget | None, statistic: Statistic) -> bool:
    """Whether a point is within the budget as it was measured, the upper confidence limit of its latency included."""
    return budget is None or exceeded(point, budget, statistic) <= 0


def exceeded(point: Point, budget: Budget, statistic: Statistic) -> float:
    """By which share a point exceeds the budget where it is farthest off it; at most 0 when it keeps it."""
    shares = [
        None if budget.limit_ms is None else upper_ms(point, statistic) / budget.limit_ms,
        None if budget.size_bytes is None else point.measurement.size_bytes / budget.size_bytes,
        None if budget.macs is None else point.macs / budget.macs,
        None if budget.accuracy is None else budget.accuracy / max(point.accuracy, 1e-9),
    ]
    return max(share for share in shares if share is not None) - 1


def upper_ms(point: Point, statistic: Statistic) -> float:
    """What the point's latency stays below with 95% confidence; the slowest run where there were too few to say (p99)."""
    timing = point.measurement.timing
    assert timing is not None
    upper = timing.limits[statistic].upper_ms
    return timing.max_ms if upper is None else upper


def ranked(result: SearchResult, budget: Budget | None, statistic: Statistic) -> list[Point]:
    """The measured points that keep the budget, most accurate first, the faster of equals; the fastest first where it says
    how accurate they must be.

    ``NoArchitectureFits`` names the nearest and what budget would do.
    """
    fitting = [point for point in result.points if keeps(point, budget, statistic)]
    if not fitting:
        raise no_architecture_fits(result, budget, statistic)
    if budget is not None and budget.accuracy is not None:
        return sorted(fitting, key=lambda point: (latency_ms(point, statistic), -point.accuracy))
    return sorted(fitting, key=lambda point: (-point.accuracy, latency_ms(point, statistic)))


def no_architecture_fits(result: SearchResult, budget: Budget | None, statistic: Statistic) -> NoArchitectureFits:
    """The error that says what would be possible."""
    assert budget is not None
    nearest = sorted(result.points, key=lambda point: exceeded(point, budget, statistic))[:NEAREST]
    would_do = ""
    if budget == Budget(budget.limit_ms, budget.statistic):  # nothing but a latency
        # one decimal more than the latency has, rounded up: a budget that is sure to do
        enough = float(np.ceil(upper_ms(nearest[0], statistic) * 1.05 * 100) / 100)
        would_do = f"; a budget of {Budget(enough, budget.statistic)} would do"
    lines = [
        f"  {latency_ms(point, statistic):.2f} ms ({statistic}), {point.accuracy:.1%} accurate, "
        f"{point.measurement.size_bytes / 1e6:.1f} MB, {point.macs / 1e9:.2f} G MACs: {point.architecture}; {point.run}"
        for point in nearest
    ]
    return NoArchitectureFits(
        "\n".join([f"nothing keeps {budget}{would_do}. The nearest of {len(result.points)} measured:", *lines])
    )


def objectives(points: list[Point], statistic: Statistic) -> np.ndarray:
    """(n, 2): latency in ms, and error (1 - accuracy)."""
    return np.array([[latency_ms(point, statistic), 1 - point.accuracy] for point in points]).reshape(-1, 2)


def noise_of(point: Point, statistic: Statistic) -> float:
    timing = point.measurement.timing
    assert timing is not None
    return (upper_ms(point, statistic) - timing.limits[statistic].lower_ms) / 2 / timing.statistic_ms(statistic)
