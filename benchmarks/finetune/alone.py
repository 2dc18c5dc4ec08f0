"""How a network is fine-tuned for itself: the ways there are, and how the passes over the rows are shared by their phases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np

Start = Literal["pre-trained", "full-first"]
"""What a network is cut out of. pre-trained: the raw checkpoint; all passes are the small network's.
full-first: the full network after it was fine-tuned as long as a super-network's full network trains alone; the small network
is corrected for what is gone (`corrected`, for its one size), and has the remaining passes with an optimizer of its own.
"""
STARTS: tuple[Start, ...] = ("pre-trained", "full-first")
DROPOUTS = ("model", "none")
CHOSEN = "most accurate of all ways on the validation rows of the first subject, seed 0, at half the latency"
PHASES = "each phase has its own optimizer, and its own learning rate that rises over a tenth of its steps and falls to 0"

Row = TypeVar("Row")


@dataclass(frozen=True)
class Way:
    """One way of fine-tuning a network for itself."""

    start: Start
    learning_rate: float
    dropout: str

    @property
    def changes(self) -> dict[str, Any]:
        """Settings of the fine-tuning."""
        return {"learning_rate": self.learning_rate, "dropout": self.dropout}

    def said(self) -> dict[str, Any]:
        """A JSON value for the settings of a result."""
        return {"start": self.start, **self.changes, "phases": PHASES, "chosen": CHOSEN}

    def __str__(self) -> str:
        """For people."""
        return f"from {self.start}, learning rate {self.learning_rate:g}, dropout {self.dropout}"


def ways_of(learning_rate: float, has_dropout: bool, starts: Sequence[Start] = STARTS) -> tuple[Way, ...]:
    """Every way that is tried: the pipeline's learning rate and half of it; with dropout and without, where the model has any."""
    rates, dropouts = (learning_rate / 2, learning_rate), DROPOUTS if has_dropout else DROPOUTS[1:]
    return tuple(Way(start, rate, dropout) for start in starts for rate in rates for dropout in dropouts)


def best(accuracies: Mapping[Way, float]) -> Way:
    """The most accurate; of equals the first."""
    return max(accuracies, key=lambda way: accuracies[way])


def phases(rows: Sequence[Row], total: int, first: int, seed: int) -> tuple[list[Row], list[Row]]:
    """``total`` rows in two phases, each of which sees its own once; ``first`` of them belong to the first.

    Pass after pass, each in an order of its own, is cut in two: so over both phases every row is seen as often as any other
    (once more or less where ``total`` is no multiple of their number), as in a training that is not interrupted.
    """
    rng = np.random.default_rng(seed)
    passes = -(-total // len(rows))
    order = np.concatenate([rng.permutation(len(rows)) for _ in range(passes)])[:total]
    drawn = [rows[int(index)] for index in order]
    return drawn[:first], drawn[first:]
