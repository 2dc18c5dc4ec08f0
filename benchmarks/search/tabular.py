"""Searching a pool: every strategy proposes what it likes, and gets of the pool what is most like it.

So all of them see the same real measurements, and nothing has to be measured while they are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from benchmarks.search.pool import Pool
from instatune_deploy.search.base import rows
from instatune_deploy.search.pareto import front, hypervolume
from instatune_deploy.search.rounds import Strategy


@dataclass(frozen=True)
class PoolSpace:
    """The architectures of a pool as a search space: the vector that stands for a genotype is that of the nearest member.

    Nearest by heads and MLP neurons, as shares of the full network's, summed over the layers.
    """

    pool: Pool

    @property
    def choices(self) -> np.ndarray:
        """As in the architectures' own space."""
        return self.pool.space.choices

    def canonical(self, genotypes: np.ndarray) -> np.ndarray:
        """(n, genes) -> (n, genes), members of the pool."""
        return self.pool.genotypes[self.nearest(genotypes)]

    def nearest(self, genotypes: np.ndarray) -> np.ndarray:
        """(n, genes) -> (n,) index in the pool."""
        if len(genotypes) == 0:
            return np.empty(0, dtype=np.int64)
        return np.abs(self._shares(genotypes)[:, None] - self._members[None]).sum(axis=2).argmin(axis=1)

    def unknown_like(self, genotypes: np.ndarray, known: set[tuple[int, ...]]) -> np.ndarray:
        """For each the member most like it that is not ``known`` and not taken by one before it, (at most n, genes)."""
        free = np.array([row not in known for row in rows(self.pool.genotypes)])
        chosen = []
        for shares in self._shares(genotypes):
            if not free.any():
                break
            far = np.abs(shares - self._members).sum(axis=1)
            chosen.append(int(np.where(free, far, np.inf).argmin()))
            free[chosen[-1]] = False
        return self.pool.genotypes[chosen]

    def _shares(self, genotypes: np.ndarray) -> np.ndarray:
        heads, widths = self.pool.space.sizes(genotypes.astype(np.int64))
        return np.column_stack([heads / self.pool.shape.heads, widths / self.pool.shape.mlp_width]).astype(np.float32)

    @cached_property
    def _members(self) -> np.ndarray:
        return self._shares(self.pool.genotypes)


def searched(strategy: Strategy, pool: Pool, objectives: np.ndarray, seed: int, until: float = np.inf) -> list[int]:
    """Indices of the whole pool, what a strategy measured first, in its order; where it wanted no more, anything follows.

    objectives: (n, 2) of the whole pool; until: the share of its hypervolume at which the strategy is not asked any more
    """
    index_of = {row: index for index, row in enumerate(rows(pool.genotypes))}
    reference = objectives.max(axis=0)
    enough = until * hypervolume(objectives, reference)
    found: list[int] = []
    while (not found or hypervolume(objectives[found], reference) < enough) and (asked := strategy.ask()) is not None:
        indices = [index_of[row] for row in rows(asked)]
        strategy.tell(asked, objectives[indices])
        found += indices
    known = set(found)
    return found + [int(index) for index in np.random.default_rng(seed).permutation(len(pool)) if int(index) not in known]


def needed(measured: Sequence[int], objectives: np.ndarray, shares: Sequence[float]) -> list[int | None]:
    """How many measurements, in their order, it took to reach each share of the whole pool's hypervolume; None: more.

    The hypervolume is that below the pool's worst latency and worst error.
    """
    reference = objectives.max(axis=0)
    whole = hypervolume(objectives, reference)
    counts: list[int | None] = [None] * len(shares)
    best = np.empty((0, objectives.shape[1]))
    for count, index in enumerate(measured, 1):
        best = np.vstack([best, objectives[index]])
        best = best[front(best)]
        reached = hypervolume(best, reference) / whole
        for number, share in enumerate(shares):
            if counts[number] is None and reached >= share:
                counts[number] = count
        if counts[-1] is not None:
            break
    return counts
