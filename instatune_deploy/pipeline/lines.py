"""Straight lines in what a graph is made of: for what adds up, such as bytes, a few measurements say all there is to say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from instatune_deploy.predict.predictor import MIN_MEASUREMENTS
from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.supernet.shape import ModelShape, present
from instatune_deploy.supernet.space import SearchSpace

Told = Callable[[np.ndarray], np.ndarray]
"""(n, genes of a deployment) -> (n,)."""


@dataclass(frozen=True)
class Lines:
    """A line for each group of runs, by least squares; 0 for a group of which too little is known.

    weights:  (5,) by group, and ``residual``, the standard deviation of what they were fitted to around them
    group_of: (runs,) int
    """

    space: SearchSpace
    shape: ModelShape
    weights: dict[int, np.ndarray]
    residual: dict[int, float]
    group_of: np.ndarray

    @classmethod
    def fit(
        cls, space: SearchSpace, shape: ModelShape, known: Mapping[int, Mapping[Architecture, float]], group_of: np.ndarray
    ) -> Lines:
        """known: by group the figure of every architecture that was measured."""
        weights, residual = {}, {}
        for group, figures in known.items():
            if len(figures) >= MIN_MEASUREMENTS:
                x = _parts(space, shape, np.array([space.encode(architecture) for architecture in figures]))
                y = np.array(list(figures.values()), dtype=float)
                weights[group] = np.linalg.lstsq(x, y, rcond=None)[0]
                # what was fitted takes a part of the deviation with each of its numbers
                free = max(1, len(y) - x.shape[1])
                residual[group] = float(np.sqrt(np.sum((x @ weights[group] - y) ** 2) / free))
        return cls(space, shape, weights, residual, group_of)

    def predict(self, genotypes: np.ndarray) -> np.ndarray:
        """(n, genes of a deployment) -> (n,)."""
        found, own = np.zeros(len(genotypes)), self._groups(genotypes)
        for group, weights in self.weights.items():
            found[own == group] = _parts(self.space, self.shape, genotypes[own == group, :-1]) @ weights
        return found

    def spread(self, genotypes: np.ndarray) -> np.ndarray:
        """Standard deviation around the line, (n, genes of a deployment) -> (n,)."""
        own = self._groups(genotypes)
        return np.array([self.residual.get(int(group), 0.0) for group in own])

    def _groups(self, genotypes: np.ndarray) -> np.ndarray:
        return np.asarray(self.group_of[genotypes[:, -1].astype(np.int64)])


def _parts(space: SearchSpace, shape: ModelShape, genotypes: np.ndarray) -> np.ndarray:
    """What a graph is made of, (n, 5): parameters, attentions, MLPs and layers, in numbers of about the same size. Where images
    have several sizes, (n, 6): their tokens too, which memory grows with."""
    heads, widths = space.sizes(genotypes)
    parameters = space.parameters(genotypes, shape) / shape.parameters_of(shape.full())
    counts = [(heads > 0).sum(axis=1), (widths > 0).sum(axis=1), present(heads, widths).sum(axis=1)]
    if space.resizes:
        largest = shape.tokens_of(np.array(space.image_sizes[-1]))
        counts.append(space.tokens(genotypes, shape, 0) / largest)
    return np.column_stack([np.ones(len(genotypes)), parameters, *counts])
