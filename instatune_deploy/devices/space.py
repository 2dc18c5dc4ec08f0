"""The space of deployments on a device: every architecture in every way of running it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from instatune_deploy.devices.profile import Run
from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.supernet.space import SearchSpace


@dataclass(frozen=True)
class DeploymentSpace:
    """A genotype is the architecture's (`SearchSpace`), then one more gene: the index of the run."""

    architectures: SearchSpace
    runs: tuple[Run, ...]

    @property
    def choices(self) -> np.ndarray:
        """Number of choices of every gene: (genes,) int64."""
        return np.append(self.architectures.choices, len(self.runs))

    def canonical(self, genotypes: np.ndarray) -> np.ndarray:
        """(n, genes) int -> the same deployments, one genotype each."""
        return np.column_stack([self.architectures.canonical(genotypes[:, :-1]), genotypes[:, -1]])

    def decode(self, genotype: np.ndarray) -> tuple[Architecture, Run]:
        """(genes,) int -> what it stands for."""
        return self.architectures.decode(genotype[:-1]), self.runs[int(genotype[-1])]

    def encode(self, architecture: Architecture, run: Run) -> np.ndarray:
        """The canonical genotype, (genes,) int64."""
        return np.append(self.architectures.encode(architecture), self.runs.index(run))

    def in_every_run(self, genotypes: np.ndarray) -> np.ndarray:
        """(n, genes of an architecture) -> (n * runs, genes): each architecture in every way of running it."""
        runs = np.tile(np.arange(len(self.runs)), len(genotypes))
        return np.column_stack([np.repeat(genotypes, len(self.runs), axis=0), runs])
