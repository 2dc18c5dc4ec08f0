"""The picture of a search that goes with an artifact."""

from __future__ import annotations

from pathlib import Path

from instatune_deploy.budget import Budget
from instatune_deploy.pipeline.bench import Point
from instatune_deploy.pipeline.objectives import latency_ms
from instatune_deploy.pipeline.results import SearchResult
from instatune_deploy.pipeline.search import Searcher
from instatune_deploy.report.front import Mark, draw_front


def draw_search(path: Path, searcher: Searcher, result: SearchResult, full: Point, chosen: Point) -> None:
    """Everything that was measured, what was chosen of it, and the budget, as a PNG. Latencies are on the nominal speed."""

    def mark(point: Point) -> Mark:
        return Mark(str(point.run), latency_ms(point, searcher.statistic), point.accuracy)

    settings = searcher.bench.inputs.settings
    draw_front(
        path,
        f"{settings.model.reference.rsplit('/', 1)[-1]} on {searcher.device.name}: {len(result.points)} measured deployments",
        [mark(point) for point in result.points],
        mark(full),
        mark(chosen),
        searcher.statistic,
        (searcher.budget or Budget()).limit_ms,
    )
