"""What a search strategy knows of what it searches: integer vectors and objectives to be minimised. Nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

Objectives = Callable[[np.ndarray], np.ndarray]
"""(n, genes) int -> (n, objectives) float, to be minimised."""
Constraints = Callable[[np.ndarray], np.ndarray]
"""(n, genes) int -> (n, constraints) float; at most 0 where kept."""


@dataclass(frozen=True)
class Predicted:
    """What predictors say: the objectives, and how far off they may be, as a standard deviation."""

    mean: Objectives
    spread: Objectives


Fit = Callable[[np.ndarray, np.ndarray], Predicted]
"""(n, genes) and their measured objectives, (n, m) -> what is predicted of anything."""


class Space(Protocol):
    """Integer vectors, gene i in ``range(choices[i])``."""

    @property
    def choices(self) -> np.ndarray:
        """(genes,) int."""
        ...

    def canonical(self, genotypes: np.ndarray) -> np.ndarray:
        """(n, genes) int -> the same things, each as the one vector that stands for it."""
        ...


def rows(genotypes: np.ndarray) -> list[tuple[int, ...]]:
    """Hashable rows of (n, genes)."""
    return [tuple(row) for row in genotypes.tolist()]
