"""Random search: what every other strategy must beat."""

from __future__ import annotations

import numpy as np

from instatune_deploy.search.rounds import Strategy

TRIES = 50
"""Draws for each that is wanted before a space counts as used up."""


class Random(Strategy):
    """Every gene uniform over its choices."""

    def propose(self) -> np.ndarray:
        """New ones only."""
        shape = TRIES * self.per_round, len(self.space.choices)
        rng = np.random.default_rng([self.seed, len(self.volumes)])
        drawn = self.space.canonical(rng.integers(0, self.space.choices, size=shape))
        return self.unknown(drawn)[: self.per_round]
