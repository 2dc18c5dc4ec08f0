"""Which sub-networks are trained in a step, beside the full one. A strategy is a function and a line in `SAMPLERS`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.supernet.shape import ModelShape
from instatune_deploy.supernet.space import SearchSpace

BINS = 10
"""Of `cost_bins`: equally wide between the lowest and the highest cost."""
POOL = 4096
"""Sub-networks that `cost_bins` chooses from."""
ALIKE_SHARE = 0.6
"""How often the others of `shapes` are alike in all layers."""
SMALLEST_SHARE = 1 / 3
"""How often the cheap one of `shapes` is the smallest."""
CHEAP = 0.5
"""Largest cost of the cheap one of `shapes`."""
COST_TOKENS = 128
"""Tokens of the input that costs are those of, where all networks' are of one size: the relative costs hardly depend on it."""


@dataclass(frozen=True)
class Relative:
    """MACs of sub-networks as a share of the full network's."""

    space: SearchSpace
    shape: ModelShape

    def __call__(self, genotypes: np.ndarray) -> np.ndarray:
        """(n, genes) int -> (n,) float64, 1 for the full network."""
        tokens = COST_TOKENS
        if self.space.image_sizes:
            tokens = int(self.shape.tokens_of(np.array(self.space.image_sizes[-1])))
        return self.space.macs(genotypes, self.shape, tokens) / self.shape.macs_of(self.space.largest(), tokens)


@dataclass(frozen=True)
class Draw:
    """What a sampler may look at.

    rng, step, steps: of this step, which is number ``step`` of ``steps``
    seed:             of the whole training, for what is drawn once
    count:            how many random sub-networks are wanted
    cost:             (n, genes) genotypes -> (n,) MACs as a share of the full network's
    held_out_loss:    the task's loss of an architecture, as it is now, on rows that are not trained on
    """

    space: SearchSpace
    rng: np.random.Generator
    step: int
    steps: int
    seed: int
    count: int
    cost: Callable[[np.ndarray], np.ndarray]
    held_out_loss: Callable[[Architecture], float]


Sampler = Callable[[Draw], list[Architecture]]
Bin = tuple[int, int]
"""Where a bin of costs begins and ends among genotypes in the order of their cost."""


def uniform(draw: Draw) -> list[Architecture]:
    """Every choice uniform; one of them is M = 1 of arXiv 2308.15609."""
    return [draw.space.decode(genotype) for genotype in draw.space.sample(draw.rng, draw.count)]


def sandwich(draw: Draw) -> list[Architecture]:
    """The smallest and uniform ones: with the full network the sandwich rule (Yu and Huang, arXiv 1903.05134)."""
    return [draw.space.smallest(), *uniform(draw)]


def alternating(draw: Draw) -> list[Architecture]:
    """Each the smallest or a uniform one, as a coin says: cheaper than the sandwich, and the small end still is learned."""
    smallest = draw.rng.random(draw.count) < 0.5
    return [draw.space.smallest() if coin else member for coin, member in zip(smallest, uniform(draw), strict=True)]


def cost_bins(draw: Draw) -> list[Architecture]:
    """Uniform over costs: a bin of MACs, then one of those in it.

    Uniform choices alone nearly all cost the same, as the costs of many layers add up.
    """
    genotypes, bins = _pool(draw.space, draw.cost, draw.seed)
    chosen = [bins[draw.rng.integers(len(bins))] for _ in range(draw.count)]
    return [_member(draw, genotypes, part) for part in chosen]


def shapes(draw: Draw) -> list[Architecture]:
    """In turns one whose layers are most often all alike, else any of any cost; and a cheap one: the smallest one time in
    three, else one of any cost up to a half.

    Independent choices of many layers hardly ever give a shallow network of full width, or a deep one that is narrow
    throughout: those are trained here as often as any. The cheap one costs little and is what learns slowest.
    """
    space, rng = draw.space, draw.rng
    genotypes, bins = _pool(space, draw.cost, draw.seed)

    def of_cost(bins: list[Bin]) -> Architecture:
        return _member(draw, genotypes, bins[rng.integers(len(bins))])

    def alike() -> Architecture:
        if rng.random() >= ALIKE_SHARE:
            return of_cost(bins)
        members = space.uniform()
        return members[rng.integers(len(members))]

    def cheap() -> Architecture:
        if rng.random() < SMALLEST_SHARE:
            return space.smallest()
        highest = draw.cost(genotypes[[end - 1 for _, end in bins]])
        return of_cost([part for part, cost in zip(bins, highest, strict=True) if cost <= CHEAP] or bins[:1])

    first = draw.step * draw.count  # so that also one a step takes turns
    return [cheap() if index % 2 else alike() for index in range(first, first + draw.count)]


SAMPLERS: dict[str, Sampler] = {
    "uniform": uniform,
    "sandwich": sandwich,
    "cost-bins": cost_bins,
    "alternating": alternating,
    "shapes": shapes,
}


def step_rng(seed: int, step: int) -> np.random.Generator:
    """A step's random numbers. They follow from ``seed`` and ``step`` alone, so that every process of a training, and a
    training that was killed and continued, takes the same sub-networks."""
    return np.random.default_rng([seed, step])


def _member(draw: Draw, genotypes: np.ndarray, part: Bin) -> Architecture:
    """One of a bin."""
    return draw.space.decode(genotypes[draw.rng.integers(*part)])


@lru_cache(maxsize=4)
def _pool(space: SearchSpace, cost: Callable[[np.ndarray], np.ndarray], seed: int) -> tuple[np.ndarray, list[Bin]]:
    """Different genotypes in the order of their cost, (n, genes), and the bins; none is empty."""
    rng = np.random.default_rng([seed, 2**32 - 1])  # no step's
    choices = space.choices
    # half of them uniform, half with a leaning of their own to small or large choices, so that all costs are there
    leaning = rng.random((POOL // 2, 1))
    leant = rng.binomial(choices - 1, np.broadcast_to(leaning, (POOL // 2, space.genes)))
    genotypes = np.unique(np.concatenate([space.sample(rng, POOL // 2), space.canonical(leant)]), axis=0)
    costs = cost(genotypes)
    order = np.argsort(costs, kind="stable")
    genotypes, costs = genotypes[order], costs[order]
    edges = np.searchsorted(costs, np.linspace(costs[0], costs[-1], BINS + 1)[1:-1], side="left")
    starts, ends = [0, *edges.tolist()], [*edges.tolist(), len(costs)]
    return genotypes, [(start, end) for start, end in zip(starts, ends, strict=True) if start < end]
