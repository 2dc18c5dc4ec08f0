"""Spaces of plain integer vectors."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Vectors:
    """Every vector stands for itself."""

    choices: np.ndarray

    def canonical(self, genotypes: np.ndarray) -> np.ndarray:
        return genotypes

    def all(self) -> np.ndarray:
        every = np.array(list(itertools.product(*map(range, self.choices))))
        return np.unique(self.canonical(every), axis=0)


class Switched(Vectors):
    """Where the first gene is 0, the second half of the others says nothing: its canonical value is the largest."""

    def canonical(self, genotypes: np.ndarray) -> np.ndarray:
        result = genotypes.copy()
        half = 1 + len(self.choices) // 2
        off = result[:, 0] == 0
        result[off, half:] = self.choices[half:] - 1
        return result
