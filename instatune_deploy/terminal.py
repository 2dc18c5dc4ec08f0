"""What a person sees while a run goes on: one line a stage, a progress bar in a terminal, plain lines in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Advance = Callable[[int, str], None]
"""How many are done, and a word on the latest."""

LINE_SECONDS = 20.0


class Terminal:
    """Writes to standard error, so that standard output has results only. ``NO_COLOR`` is honoured (by rich)."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """One line."""
        self.console.print(text, markup=False)

    def stage(self, text: str) -> None:
        """A stage begins (or is reused)."""
        self.console.print(f"[bold]»[/bold] {_escaped(text)}")

    def result(self, text: str) -> None:
        """What a stage found, under its line."""
        self.console.print(f"  {text}", markup=False)

    @contextmanager
    def progress(self, total: int, label: str) -> Iterator[Advance]:
        """Call what is given with how many of ``total`` are done; time left is shown with it."""
        if self.console.is_terminal:
            with self._bar() as bar:
                task = bar.add_task(label, total=total, note="")
                yield lambda done, note: bar.update(task, completed=done, note=note)
        else:
            yield self._lines(total, label)

    def _bar(self) -> Progress:
        return Progress(
            SpinnerColumn(),
            TextColumn("  {task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            transient=True,
        )

    def _lines(self, total: int, label: str) -> Advance:
        """For logs: a line every `LINE_SECONDS` and one at the end."""
        start = last = time.monotonic()
        before: int | None = None  # what an earlier run had done says nothing on this one's speed

        def advance(done: int, note: str) -> None:
            nonlocal last, before, start
            now = time.monotonic()
            if before is None:
                before, start = done, now
            if done < total and now - last < LINE_SECONDS:
                return
            last = now
            speed = (now - start) / (done - before) if done > before else None
            left = f", about {duration(speed * (total - done))} left" if speed is not None and done < total else ""
            self.result(f"{label}: {done} of {total}{left}{'; ' + note if note else ''}")

        return advance


def duration(seconds: float) -> str:
    """``45 s``, ``3 min 20 s``."""
    seconds = round(seconds)
    return f"{seconds} s" if seconds < 60 else f"{seconds // 60} min {seconds % 60} s"


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")
