"""The table a run ends with: the full model, the chosen sub-network and the rest of the front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.table import Table


class Kept(NamedTuple):
    """What is kept of the full model, such as ``3/6`` layers, ``20/72`` heads, ``22%`` of the MLP neurons, images of ``42 px``;
    nothing of images where all networks take those of one size."""

    layers: str
    heads: str
    mlp: str
    images: str = ""


@dataclass(frozen=True)
class Row:
    """One line.

    latency in ms, size in bytes; accuracy on the validation rows and on the test rows (None: not measured), 0 to 1
    """

    role: str
    kept: Kept
    run: str
    latency_ms: float
    accuracy: float
    test_accuracy: float | None
    size_bytes: int
    macs: int
    chosen: bool = False


COLUMNS = ("", "layers", "heads", "MLP", "images", "run", "latency", "speed", "valid.", "test", "size", "MACs")
LEFT = 6
"""So many columns are words, the rest are figures."""


def cells(row: Row, full: Row) -> tuple[str, ...]:
    """The texts of a line; the speed-up is against ``full``."""
    return (
        row.role,
        *row.kept,
        row.run,
        f"{row.latency_ms:.2f} ms",
        f"{full.latency_ms / row.latency_ms:.1f}x",
        f"{row.accuracy:.1%}",
        "" if row.test_accuracy is None else f"{row.test_accuracy:.1%}",
        f"{row.size_bytes / 1e6:.1f} MB",
        f"{row.macs / 1e9:.2f} G",
    )


def table(rows: Sequence[Row], statistic: str) -> Table:
    """For the terminal. The first row is the full model that speed-ups are against; a column without a word is left out."""
    result = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    lines = [cells(row, rows[0]) for row in rows]
    shown = [index for index, texts in enumerate(zip(*lines, strict=True)) if any(texts)]
    for index in shown:
        name = COLUMNS[index]
        title = _title(name, statistic)
        result.add_column(title, justify="left" if index < LEFT else "right", no_wrap=index >= LEFT, overflow="fold")
    for row, texts in zip(rows, lines, strict=True):
        result.add_row(*(texts[index] for index in shown), style="bold green" if row.chosen else "")
    return result


def _title(name: str, statistic: str) -> str:
    return f"{statistic} latency" if name == "latency" else name
