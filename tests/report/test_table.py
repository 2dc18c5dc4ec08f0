from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from instatune_deploy.report.table import COLUMNS, Kept, Row, cells, table

FULL = Row(
    role="full model",
    kept=Kept("6/6", "72/72", "100%"),
    run="onnxruntime fp32",
    latency_ms=27.0,
    accuracy=0.8625,
    test_accuracy=0.8575,
    size_bytes=90_900_000,
    macs=1_410_000_000,
)
SMALL = replace(
    FULL,
    role="artifact",
    kept=Kept("3/6", "20/72", "22%"),
    latency_ms=4.0,
    accuracy=0.79,
    test_accuracy=None,
    size_bytes=54_321_000,
    macs=340_000_000,
    chosen=True,
)


def printed(color: bool = False, width: int = 120) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, force_terminal=color, color_system="standard" if color else None).print(
        table([FULL, SMALL], "p90")
    )
    return stream.getvalue()


def test_cells_by_hand() -> None:
    assert cells(SMALL, FULL) == (
        "artifact", "3/6", "20/72", "22%", "", "onnxruntime fp32", "4.00 ms", "6.8x", "79.0%", "", "54.3 MB", "0.34 G",
    )  # fmt: skip
    assert cells(FULL, FULL) == (
        "full model", "6/6", "72/72", "100%", "", "onnxruntime fp32", "27.00 ms", "1.0x", "86.2%", "85.8%", "90.9 MB", "1.41 G",
    )  # fmt: skip
    assert len(cells(FULL, FULL)) == len(COLUMNS)


def test_sizes_of_images_have_a_column_where_there_are_several() -> None:
    assert "images" not in printed()
    stream = io.StringIO()
    rows = [
        replace(FULL, kept=Kept("12/12", "72/72", "100%", "56 px")),
        replace(SMALL, kept=Kept("8/12", "30/72", "50%", "42 px")),
    ]
    Console(file=stream, width=140).print(table(rows, "p90"))
    head, _, full, small = [line for line in stream.getvalue().splitlines() if line.strip()]
    assert "images" in head
    assert "56 px" in full
    assert "42 px" in small


@pytest.mark.parametrize("width", [80, 95, 120])
def test_the_table_fits_a_terminal(width: int) -> None:
    """Where it is narrow, words go on in the next line; figures stay whole and nothing is cut off."""
    lines = printed(width=width).splitlines()
    assert max(map(len, lines)) <= width
    assert "…" not in printed(width=width)
    figures = [line.split()[-9:] for line in lines if " ms " in line]
    assert figures[0] == ["27.00", "ms", "1.0x", "86.2%", "85.8%", "90.9", "MB", "1.41", "G"]
    assert "p90 latency" in printed(width=width)


def test_the_chosen_line_stands_out() -> None:
    full, chosen = (
        next(line for line in printed(color=True).splitlines() if role in line) for role in ("full model", "artifact")
    )
    assert "\x1b[1;32m" in chosen
    assert "\x1b[1;32m" not in full
