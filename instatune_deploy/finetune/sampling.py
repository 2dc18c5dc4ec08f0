"""Which sub-networks are trained in a step, beside the full one. A strategy is a function and a line in `SAMPLERS`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.supernet.space import SearchSpace

Sampler = Callable[[SearchSpace, np.random.Generator], list[Architecture]]


def uniform(space: SearchSpace, rng: np.random.Generator) -> list[Architecture]:
    """One sub-network, every choice uniform: M = 1 of arXiv 2308.15609."""
    return [space.decode(space.sample(rng, 1)[0])]


def sandwich(space: SearchSpace, rng: np.random.Generator) -> list[Architecture]:
    """The smallest and one uniform: with the full network the sandwich rule (Yu and Huang, arXiv 1903.05134)."""
    return [space.smallest(), *uniform(space, rng)]


def alternating(space: SearchSpace, rng: np.random.Generator) -> list[Architecture]:
    """The smallest or one uniform, as a coin says: half the cost of the sandwich, and the small end still is learned."""
    return [space.smallest()] if rng.random() < 0.5 else uniform(space, rng)


SAMPLERS: dict[str, Sampler] = {"uniform": uniform, "sandwich": sandwich, "alternating": alternating}


def sample_step(sampler: str, space: SearchSpace, seed: int, step: int) -> list[Architecture]:
    """The sub-networks of a step. They follow from ``seed`` and ``step`` alone, so that every process of a training, and
    a training that was killed and continued, takes the same ones."""
    return SAMPLERS[sampler](space, np.random.default_rng([seed, step]))
