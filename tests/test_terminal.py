from __future__ import annotations

import io

import pytest
from rich.console import Console

from instatune_deploy import terminal as terminal_module
from instatune_deploy.terminal import Terminal, duration


def written(color: bool = False) -> tuple[Terminal, io.StringIO]:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=color, highlight=False, soft_wrap=True, width=80)
    return Terminal(console), stream


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (3600, "60 min 0 s")]
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_lines_are_whole_and_square_brackets_are_text() -> None:
    terminal, stream = written()
    terminal.say("[bold]said[/bold] " + "x" * 200)
    terminal.stage("a stage of [1, 2] and [red]")
    terminal.result("a result [/]")
    assert stream.getvalue().splitlines() == [
        "[bold]said[/bold] " + "x" * 200,
        "» a stage of [1, 2] and [red]",
        "  a result [/]",
    ]


def test_everything_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    Terminal().say("here")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "here\n")


def test_progress_in_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 5.0, 25.0, 30.0, 40.0])
    monkeypatch.setattr(terminal_module.time, "monotonic", lambda: next(clock))
    terminal, stream = written()
    with terminal.progress(4, "steps") as advance:
        advance(1, "early")  # 5 s after the start: no line yet
        advance(2, "loss 0.5")  # 20 s since for one more: 40 s for the other two
        advance(3, "soon after")
        advance(4, "")
    assert stream.getvalue().splitlines() == ["  steps: 2 of 4, about 40 s left; loss 0.5", "  steps: 4 of 4"]


def test_time_left_does_not_count_what_an_earlier_run_did(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 10.0, 40.0, 50.0])
    monkeypatch.setattr(terminal_module.time, "monotonic", lambda: next(clock))
    terminal, stream = written()
    with terminal.progress(100, "steps") as advance:
        advance(91, "")
        advance(94, "")  # 30 s for three: 60 s for the other six
        advance(100, "")
    assert stream.getvalue().splitlines() == ["  steps: 94 of 100, about 1 min 0 s left", "  steps: 100 of 100"]


def test_progress_in_a_terminal_leaves_nothing_behind() -> None:
    terminal, stream = written(color=True)
    with terminal.progress(2, "steps") as advance:
        advance(2, "loss 0.5")
    assert "steps" in stream.getvalue()
    assert "2/2" in stream.getvalue()
