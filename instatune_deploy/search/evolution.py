"""Plain NSGA-II: every individual of every generation is measured, nothing is predicted."""

from __future__ import annotations

import numpy as np

from instatune_deploy.search.base import rows
from instatune_deploy.search.nsga2 import Nsga2
from instatune_deploy.search.rounds import Strategy

WORST = 1e12
"""Objective of what could not be measured."""
TRIES = 100
"""Generations without anything new before the search is over."""


class Evolution(Strategy):
    """The first round is the first population; ``per_round`` children a generation."""

    nsga2: Nsga2 | None = None
    asked: np.ndarray

    def propose(self) -> np.ndarray:
        """The next generation with anything new in it."""
        if self.nsga2 is None:
            start = self.measured
            limited = self.exceeded(start[:1], self.objectives[:1]).shape[1]
            self.nsga2 = Nsga2(self.space, len(start), self.seed, start, len(self.limits), limited, self.per_round)
            self.asked = self.nsga2.ask()
        for _ in range(TRIES):
            self._tell_what_is_known()
            self.asked = self.nsga2.ask()
            if len(self.asked) == 0 or len(self.unknown(self.asked)):
                return self.asked
        return self.measured[:0]

    def _tell_what_is_known(self) -> None:
        assert self.nsga2 is not None
        known = dict(zip(rows(self.measured), self.objectives, strict=True))
        lost = np.full(len(self.limits), WORST)
        values = np.array([known.get(row, lost) for row in rows(self.asked)])
        exceeded = self.exceeded(self.asked, values)
        self.nsga2.tell(values, exceeded if exceeded.shape[1] else None)
