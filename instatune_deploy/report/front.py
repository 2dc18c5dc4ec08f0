"""The front as a picture: accuracy against latency of everything that was measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

INCHES = 7.2, 4.5
DOTS_PER_INCH = 120
MARKERS = "osD^vP*X"
FULL, CHOSEN, LIMIT, FRONT = "#444444", "#c1121f", "#c1121f", "#888888"


class Mark(NamedTuple):
    """A measured deployment. run: how it was run, in words; accuracy: on the validation rows, 0 to 1."""

    run: str
    latency_ms: float
    accuracy: float


def draw_front(
    path: Path,
    title: str,
    measured: Sequence[Mark],
    full: Mark,
    chosen: Mark,
    statistic: str,
    limit_ms: float | None = None,
) -> None:
    """Write a PNG; the same marks give the same bytes.

    full: the model that others are compared with; statistic: of the latencies; limit_ms: the latency that was allowed
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    # no pyplot: it keeps figures, and asks the environment for a window
    figure = Figure(figsize=INCHES, dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.grid(color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    best = front(measured)
    axes.step(
        [mark.latency_ms for mark in best],
        [mark.accuracy for mark in best],
        where="post",
        color=FRONT,
        linewidth=1.2,
        label="front",
    )
    runs = list(dict.fromkeys(mark.run for mark in measured))
    for number, run in enumerate(runs):
        of_run = [mark for mark in measured if mark.run == run]
        axes.scatter(
            [mark.latency_ms for mark in of_run],
            [mark.accuracy for mark in of_run],
            s=22,
            marker=MARKERS[number % len(MARKERS)],
            color=f"C{number % 10}",
            alpha=0.75,
            linewidths=0,
            label=run,
        )
    axes.scatter(full.latency_ms, full.accuracy, s=120, marker="o", facecolors="none", edgecolors=FULL, label="full model")
    axes.scatter(chosen.latency_ms, chosen.accuracy, s=150, marker="*", color=CHOSEN, zorder=3, label="this artifact")
    if limit_ms is not None:
        axes.axvline(limit_ms, color=LIMIT, linestyle="--", linewidth=1.2, label=f"budget, {limit_ms:g} ms")
    axes.set_xlabel(f"latency ({statistic}) of one inference, ms")
    axes.set_ylabel("accuracy on validation rows")
    axes.set_xlim(left=0)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_title(title, fontsize=11)
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))
    figure.savefig(path, format="png", metadata={"Software": None})


def front(marks: Sequence[Mark]) -> list[Mark]:
    """Those that none other is both as fast as and more accurate than, or as accurate as and faster than; fastest first."""
    best: list[Mark] = []
    for mark in sorted(marks, key=lambda mark: (mark.latency_ms, -mark.accuracy)):
        if not best or mark.accuracy > best[-1].accuracy:
            best.append(mark)
    return best
