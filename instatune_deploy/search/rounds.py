"""What every strategy does: ask in rounds for what it has not asked yet, and keep what came out."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from instatune_deploy.search.base import Constraints, Space, rows
from instatune_deploy.search.pareto import hypervolume

BEYOND = 1e-3
"""How far beyond a limit the hypervolume begins, as a share of what the first round spans: what is just at it counts too."""


class Strategy(ABC):
    """`ask` for what to measure next, `tell` what came out, until `ask` gives nothing.

    first:     (k, genes), the first round
    limits:    (m,), what each objective may be at most; infinity where it may be anything
    also:      what else must be kept, and needs no measuring
    rounds:    at most so many after the first; per_round: how many are measured in each
    """

    predicts: bool = False
    """Whether it makes predictors, for which a few measurements are not enough."""

    def __init__(
        self,
        space: Space,
        first: np.ndarray,
        limits: np.ndarray,
        also: Constraints | None = None,
        *,
        rounds: float,
        per_round: int,
        seed: int = 0,
    ) -> None:
        self.space, self.limits, self.also = space, limits, also
        self.rounds, self.per_round, self.seed = rounds, per_round, seed
        self.measured = np.empty((0, len(space.choices)), dtype=np.int64)
        self.objectives = np.empty((0, len(limits)))
        self.known: set[tuple[int, ...]] = set()
        self.volumes: list[float] = []
        """Hypervolume of the measured front after every round; set by `tell`."""
        self.worst = np.full(len(limits), np.inf)
        """(m,), a little worse than the worst of the first round."""
        self.scale = np.ones(len(limits))
        """(m,), how far the first round's objectives are apart."""
        self._next: np.ndarray | None = space.canonical(first)

    def ask(self) -> np.ndarray | None:
        """(n, genes), none of it asked before; None when the search is over."""
        if self._next is None and len(self.volumes) > self.rounds:
            return None
        asked = self.propose() if self._next is None else self._next
        self._next = None
        fresh = self.unknown(asked)
        if len(fresh) == 0:
            return None
        self.known.update(rows(fresh))
        return fresh

    def tell(self, measured: np.ndarray, objectives: np.ndarray) -> None:
        """What was measured of the last `ask`, (n, genes) and (n, m). What could not be measured is left out."""
        self.measured = np.concatenate([self.measured, measured.astype(np.int64)])
        self.objectives = np.concatenate([self.objectives, objectives])
        if not self.volumes and len(objectives):
            span = np.ptp(objectives, axis=0)
            self.worst = objectives.max(axis=0) + 0.05 * span + 1e-9
            self.scale = np.where(span > 0, span, 1.0)
        self.volumes.append(self.volume(len(self.measured)))

    @property
    def reference(self) -> np.ndarray:
        """(m,), what the hypervolume is measured from: only what keeps the limits counts as progress."""
        return np.minimum(self.worst, self.limits + BEYOND * self.scale)

    def volume(self, count: int) -> float:
        """Hypervolume of the first ``count`` that were measured."""
        kept = self.objectives[:count][self._allowed(self.measured[:count])]
        return hypervolume(kept, self.reference) if len(kept) else 0.0

    def kept_objectives(self) -> np.ndarray:
        """Of what was measured and keeps ``also``, (k, m); what exceeds the limits is among them."""
        return self.objectives[self._allowed(self.measured)]

    def exceeded(self, genotypes: np.ndarray, objectives: np.ndarray) -> np.ndarray:
        """How far each limit is exceeded, (n, limits), as a share of what the first round spans, or of what ``also`` says; at
        most 0 where kept. No columns where nothing is limited."""
        bounded = np.isfinite(self.limits)
        over = ((objectives - self.limits) / self.scale)[:, bounded]
        return over if self.also is None else np.column_stack([over, self.also(genotypes)])

    def unknown(self, genotypes: np.ndarray) -> np.ndarray:
        """Those that were not asked for yet, each once, (n, genes)."""
        fresh = [row for row in dict.fromkeys(rows(genotypes)) if row not in self.known]
        return np.array(fresh, dtype=np.int64).reshape(-1, len(self.space.choices))

    @abstractmethod
    def propose(self) -> np.ndarray:
        """The round after the first, and every one after that, (n, genes) canonical; none when the search is over."""

    def _allowed(self, genotypes: np.ndarray) -> np.ndarray:
        if self.also is None or len(genotypes) == 0:
            return np.ones(len(genotypes), dtype=bool)
        return np.asarray((self.also(genotypes) <= 0).all(axis=1))
