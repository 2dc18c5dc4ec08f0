"""Several trainings in one process, step by step in turns: A B C A B C. What is timed is the Trainer's own loop.

Each training has a thread, and only one of them runs at any time; each step is timed from its batch being ready to its
optimizer being done.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from transformers import TrainerCallback


@dataclass
class Turns:
    """Whose turn it is, of ``count``; those that are done are passed over."""

    count: int
    current: int = 0
    done: set[int] = field(default_factory=set)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def wait(self, own: int) -> None:
        """Until it is this one's turn."""
        with self.changed:
            self.changed.wait_for(lambda: self.current == own)

    def give_up(self, own: int, for_good: bool = False) -> None:
        """The next one's turn."""
        with self.changed:
            if for_good:
                self.done.add(own)
            left = [(own + step) % self.count for step in range(1, self.count + 1)]
            self.current = next((other for other in left if other not in self.done), -1)
            self.changed.notify_all()


class StepTimes(TrainerCallback):
    """Times every step of a training, and lets the others take theirs between two of them."""

    def __init__(self, turns: Turns, own: int) -> None:
        self.turns = turns
        self.own = own
        self.seconds: list[float] = []
        self.started: float | None = None

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # the batch was fetched in this one's turn too: nothing runs while another's step is timed
        if self.started is not None:
            self.turns.give_up(self.own)
            self.turns.wait(self.own)
        self.started = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        assert self.started is not None
        self.seconds.append(time.perf_counter() - self.started)


def in_turns(trainings: Sequence[Callable[[StepTimes], None]]) -> list[list[float]]:
    """Seconds of every step of each. A training is given the callback that its Trainer must have, and runs to its end."""
    turns = Turns(len(trainings))
    watches = [StepTimes(turns, index) for index in range(len(trainings))]
    failures: list[BaseException] = []

    def run(index: int) -> None:
        turns.wait(index)
        try:
            trainings[index](watches[index])
        except BaseException as error:
            failures.append(error)
        finally:
            turns.give_up(index, for_good=True)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(trainings))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return [watch.seconds for watch in watches]
