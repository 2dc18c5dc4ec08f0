"""The front as a picture."""

from __future__ import annotations

import itertools
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from instatune_deploy.report.front import Mark, draw_front, front

MARKS = [Mark("a", 2.0, 0.8), Mark("b", 1.0, 0.7), Mark("a", 2.0, 0.75), Mark("a", 3.0, 0.8), Mark("b", 4.0, 0.9)]


def test_the_front_is_what_nothing_else_beats() -> None:
    assert front(MARKS) == [MARKS[1], MARKS[0], MARKS[4]]
    assert front([]) == []


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), max_size=20))
def test_whatever_is_measured_is_on_the_front_or_behind_it(pairs: list[tuple[int, int]]) -> None:
    marks = [Mark("a", float(took), right / 10) for took, right in pairs]
    best = front(marks)
    for mark in marks:
        assert any(item.latency_ms <= mark.latency_ms and item.accuracy >= mark.accuracy for item in best)
    for one, other in itertools.pairwise(best):
        assert one.latency_ms < other.latency_ms
        assert one.accuracy < other.accuracy


def drawn(path: Path, **changes: float) -> Path:
    draw_front(path, "a device", MARKS, full=MARKS[4], chosen=MARKS[1], statistic="p90", **changes)
    return path


def test_the_same_figures_are_the_same_bytes(tmp_path: Path) -> None:
    one, other = drawn(tmp_path / "1.png", limit_ms=2.5), drawn(tmp_path / "2.png", limit_ms=2.5)
    assert one.read_bytes() == other.read_bytes()
    assert drawn(tmp_path / "3.png").read_bytes() != one.read_bytes()  # without a budget there is no line


def test_the_chosen_one_and_the_budget_are_drawn(tmp_path: Path) -> None:
    def reds(path: Path) -> int:
        return sum(count for count, colour in Image.open(path).convert("RGB").getcolors(1 << 20) or [] if colour == (193, 18, 31))

    without, within = reds(drawn(tmp_path / "1.png")), reds(drawn(tmp_path / "2.png", limit_ms=2.5))
    assert without > 50
    assert within > without + 100
