"""Random search: what every other strategy must beat."""

from __future__ import annotations

import numpy as np

from instatune_deploy.search.base import Constraints, Space
from instatune_deploy.search.rounds import Strategy

TRIES = 50
"""Draws for each that is wanted before a space counts as used up."""


class Random(Strategy):
    """Every gene uniform over its choices."""

    def __init__(
        self,
        space: Space,
        first: np.ndarray,
        limits: np.ndarray,
        also: Constraints | None = None,
        *,
        rounds: int,
        per_round: int,
        seed: int,
    ) -> None:
        super().__init__(space, first, limits, also)
        self.rounds, self.per_round = rounds, per_round
        self.rng = np.random.default_rng(seed)

    def propose(self) -> np.ndarray:
        """New ones only."""
        if len(self.volumes) > self.rounds:
            return self.measured[:0]
        shape = TRIES * self.per_round, len(self.space.choices)
        drawn = self.space.canonical(self.rng.integers(0, self.space.choices, size=shape))
        return self.unknown(drawn)[: self.per_round]
