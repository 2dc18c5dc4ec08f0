"""The space of deployments on a device: every architecture in every way of running it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from instatune_deploy.devices.runs import Run
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

    def shared_out(self, genotypes: np.ndarray, always: int, per_run: int) -> np.ndarray:
        """(n, genes of an architecture) -> (rows, genes): ``per_run`` architectures for each way of running them.

        Every way gets the first ``always``; of the others each gets evenly spaced ones, and different ways different ones.
        Rows are ordered by architecture.
        """
        per_run = min(per_run, len(genotypes))
        chosen = []
        for run in range(len(self.runs)):
            free = len(genotypes) - always
            wanted = per_run - min(always, len(genotypes))
            places = (np.arange(wanted) * free // max(wanted, 1) + run) % max(free, 1)
            chosen += [(int(index), run) for index in [*range(min(always, len(genotypes))), *(always + places)]]
        pairs = np.array(sorted(chosen)).reshape(-1, 2)
        return np.column_stack([genotypes[pairs[:, 0]], pairs[:, 1]])
