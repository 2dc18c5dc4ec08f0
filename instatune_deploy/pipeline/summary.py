"""What a person is told at the end: the table of the front, where the artifact lies, how well it kept its promise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from instatune_deploy.artifact.checks import latency_limits
from instatune_deploy.pipeline.export import Exported, full_point
from instatune_deploy.pipeline.objectives import latency_ms
from instatune_deploy.pipeline.results import SearchResult, keeps
from instatune_deploy.report.table import Kept, Row, table
from instatune_deploy.supernet.architecture import Architecture

if TYPE_CHECKING:
    from instatune_deploy.artifact.manifest import Budget, Manifest
    from instatune_deploy.pipeline.bench import Point
    from instatune_deploy.pipeline.search import Searcher

FRONT_ROWS = 6
LOG_WIDTH = 120


def say_if_full_fits(searcher: Searcher, result: SearchResult) -> None:
    """A budget that the full model keeps already is worth a line: nothing has to be given up for it.

    Where an accuracy is asked for, the full model most often has it, and what is faster is looked for.
    """
    full = searcher.architectures.largest()
    fitting = [
        point for point in result.points if point.architecture == full and keeps(point, searcher.budget, searcher.statistic)
    ]
    if searcher.budget is None or searcher.budget.accuracy is not None or not fitting:
        return
    best = min(fitting, key=lambda point: latency_ms(point, searcher.statistic))
    searcher.terminal.stage(
        f"the full model already keeps {searcher.budget}: {latency_ms(best, searcher.statistic):.2f} ms in {best.run}; "
        "handed over is the most accurate network measured"
    )


def show_artifact(searcher: Searcher, result: SearchResult, exported: Exported, forms: Sequence[Path] = ()) -> None:
    """The table of a finished artifact, its path and those of its other forms, on standard output."""
    manifest = exported.manifest
    chosen = Row(
        role="artifact",
        kept=_kept(searcher, manifest.architecture),
        run=str(manifest.deployment.run),
        latency_ms=manifest.latency_ms.statistic_ms(searcher.statistic),
        accuracy=manifest.accuracy.validation,
        test_accuracy=manifest.accuracy.test,
        size_bytes=manifest.size_bytes,
        macs=manifest.macs,
        chosen=True,
    )
    _show(searcher, result, [chosen], {(manifest.architecture, chosen.run)})
    console = Console(highlight=False, soft_wrap=True)  # paths stay whole, whatever the width
    console.print("(the artifact's latency is as the clock gave it; the others are on this host's nominal speed)")
    if top5 := manifest.accuracy.top5:
        console.print(f"the artifact's top-5 accuracy: {', '.join(f'{value:.1%} {split}' for split, value in top5.items())}")
    if manifest.budget is not None:
        console.print(f"budget {manifest.budget.text}: kept, {', '.join(_kept_limits(manifest, manifest.budget))}")
    console.print(f"artifact: {exported.folder}", markup=False)
    for path in forms:
        console.print(f"also as: {path}", markup=False)
    console.print(f"check it anywhere: python {exported.folder / 'verify.py'}", markup=False)


def show_front(searcher: Searcher, result: SearchResult) -> None:
    """The table of a search, on standard output."""
    _show(searcher, result, [], set())


def _show(searcher: Searcher, result: SearchResult, chosen: list[Row], handed_over: set[tuple[Architecture, str]]) -> None:
    full = searcher.architectures.largest()
    baseline = full_point(result, searcher.bench)
    rows = [_row(searcher, baseline, "full model", test=True)]
    shown = {(full, str(baseline.run)), *handed_over}
    fastest = min(
        (point for point in result.points if point.architecture == full), key=lambda p: latency_ms(p, searcher.statistic)
    )
    if fastest.run != baseline.run:
        rows.append(_row(searcher, fastest, "full, fastest"))
        shown.add((full, str(fastest.run)))
    rows += chosen
    others = [point for point in result.front(searcher.statistic) if (point.architecture, str(point.run)) not in shown]
    # slowest and most accurate first, evenly taken when there are many
    step = max(1, -(-len(others) // FRONT_ROWS))
    rows += [_row(searcher, point, "front") for point in others[::-1][::step]]
    _console().print(table(rows, searcher.statistic))


def _kept_limits(manifest: Manifest, budget: Budget) -> list[str]:
    """The artifact's own figure of everything that was limited."""
    said = []
    for statistic, limit_ms in latency_limits(budget).items():
        took = manifest.latency_ms.statistic_ms(statistic)
        said.append(f"{took:.2f} ms ({statistic}) is {took / limit_ms:.0%} of it")
    if budget.size_bytes is not None:
        said.append(f"{manifest.size_bytes / 1e6:.4g} MB are {manifest.size_bytes / budget.size_bytes:.0%} of it")
    if budget.memory_bytes is not None and manifest.memory_bytes is not None:
        said.append(f"{manifest.memory_bytes / 1e6:.4g} MB of memory are {manifest.memory_bytes / budget.memory_bytes:.0%} of it")
    if budget.macs is not None:
        macs = manifest.macs / manifest.batch_size
        said.append(f"{macs / 1e9:.3g} G MACs are {macs / budget.macs:.0%} of it")
    if budget.accuracy is not None:
        said.append(f"{manifest.accuracy.validation:.2%} of the validation rows are right")
    return said


def _console() -> Console:
    """Standard output; a log has no width of its own, and the table keeps its lines whole there."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=LOG_WIDTH)


def _kept(searcher: Searcher, architecture: Architecture) -> Kept:
    """What is kept of the full model, as the table says it."""
    shape = searcher.bench.supernet.shape
    return Kept(
        layers=f"{architecture.depth}/{shape.layers}",
        heads=f"{sum(architecture.heads)}/{shape.layers * shape.heads}",
        mlp=f"{sum(architecture.mlp_widths) / (shape.layers * shape.mlp_width):.0%}",
        images="" if architecture.image_size is None else f"{architecture.image_size} px",
    )


def _row(searcher: Searcher, point: Point, role: str, test: bool = False) -> Row:
    return Row(
        role=role,
        kept=_kept(searcher, point.architecture),
        run=str(point.run),
        latency_ms=latency_ms(point, searcher.statistic),
        accuracy=point.accuracy,
        test_accuracy=searcher.bench.accuracy(point.architecture, point.run, "test") if test else None,
        size_bytes=point.measurement.size_bytes,
        macs=point.macs,
    )
