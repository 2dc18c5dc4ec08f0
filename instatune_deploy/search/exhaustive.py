"""Everything there is, for small spaces."""

from __future__ import annotations

import itertools
import math

import numpy as np

from instatune_deploy.errors import BadInput
from instatune_deploy.search.base import Constraints, Space
from instatune_deploy.search.rounds import Strategy

MOST_GENOTYPES = 100_000


def check_size(space: Space, runs: int = 1) -> None:
    """``BadInput`` for a space that is too large to be written down. runs: in how many ways each of its members is run"""
    genotypes = runs * float(np.prod(space.choices.astype(float)))
    if genotypes > MOST_GENOTYPES:
        raise BadInput(
            f"search.strategy 'exhaustive': the space has {genotypes:.3g} genotypes, more than {MOST_GENOTYPES}; "
            "take 'linas', or a smaller space"
        )


class Exhaustive(Strategy):
    """``per_round`` at a time, the first round first. ``BadInput`` for a space that is too large to be written down."""

    def __init__(
        self, space: Space, first: np.ndarray, limits: np.ndarray, also: Constraints | None = None, *, per_round: int
    ) -> None:
        super().__init__(space, first, limits, also, rounds=math.inf, per_round=per_round)
        check_size(space)
        every = np.array(list(itertools.product(*map(range, space.choices.tolist()))), dtype=np.int64)
        self.every = np.unique(space.canonical(every), axis=0)

    def propose(self) -> np.ndarray:
        """The next ones in their order."""
        return self.unknown(self.every)[: self.per_round]
