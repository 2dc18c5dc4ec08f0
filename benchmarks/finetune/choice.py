"""Which members of a space are looked at. Pure functions of latencies, MACs and accuracies that others measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from instatune_deploy.search.design import spread_over_cost
from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.supernet.shape import ModelShape
from instatune_deploy.supernet.space import SearchSpace

TARGETS = (0.75, 0.5, 0.35)
"""Latency as a share of the full model's."""
TOLERANCE = 0.03
"""A member is at a target when its latency is off by at most this share of it."""

Figures = Mapping[Architecture, float]


def spread_members(space: SearchSpace, shape: ModelShape, tokens: int, count: int, seed: int = 0) -> list[Architecture]:
    """Different members spread over MACs, the full network among them: layers unlike each other, sub-layers gone."""
    chosen = spread_over_cost(
        space,
        lambda genotypes: space.macs(genotypes, shape, tokens),
        count,
        np.random.default_rng(seed),
        include=space.encode(space.largest())[None],
        prefer=np.empty((0, len(space.choices)), dtype=np.int64),
    )
    return [space.decode(row) for row in chosen]


def irregular(architecture: Architecture) -> bool:
    """Whether its layers are unlike each other in heads and in neurons, and an attention or an MLP is gone."""
    heads, widths = {*architecture.heads}, {*architecture.mlp_widths}
    return len(heads) > 1 and len(widths) > 1 and 0 in heads | widths


def expected_ms(latencies_ms: Figures, members: Sequence[Architecture]) -> dict[Architecture, float]:
    """About what ``members`` take: linear in layers, heads and neurons, fitted to those whose latency is known.

    Only says which members are worth measuring for a target.
    """

    def sizes(items: Iterable[Architecture]) -> np.ndarray:
        return np.array([[1, item.depth, sum(item.heads), sum(item.mlp_widths)] for item in items], dtype=float)

    fitted = np.linalg.lstsq(sizes(latencies_ms), np.array(list(latencies_ms.values())), rcond=None)[0]
    return dict(zip(members, (sizes(members) @ fitted).tolist(), strict=True))


def at_target(latencies_ms: Figures, full_ms: float, target: float, tolerance: float = TOLERANCE) -> list[Architecture]:
    """Two members whose latency is within ``tolerance`` of ``target`` times the full model's: the deepest and the shallowest.

    Of equal depth the one nearest to the target. One member where both are the same; the nearest of all where none is
    within. Accuracy has no say.
    """
    off = {member: abs(latency_ms / (target * full_ms) - 1) for member, latency_ms in latencies_ms.items()}
    near = [member for member in off if off[member] <= tolerance] or [min(off, key=lambda member: off[member])]
    deepest = min(near, key=lambda member: (-member.depth, off[member]))
    shallowest = min(near, key=lambda member: (member.depth, off[member]))
    return list(dict.fromkeys([deepest, shallowest]))


def first_layers(latencies_ms: Figures, full_ms: float, target: float) -> Architecture:
    """Of networks that keep the first layers whole, the one whose latency is nearest to the target, above or below it."""
    return min(latencies_ms, key=lambda member: abs(latencies_ms[member] - target * full_ms))


def best_within(accuracies: Figures, latencies_ms: Figures, limit_ms: float) -> Architecture | None:
    """The most accurate member that is not slower than ``limit_ms``; of equals the fastest. None: there is none."""
    able = [member for member in accuracies if latencies_ms[member] <= limit_ms]
    return min(able, key=lambda member: (-accuracies[member], latencies_ms[member]), default=None)


def smallest_losing(accuracies: Figures, macs: Figures, reference: float, points: float) -> Architecture | None:
    """The member of fewest MACs whose accuracy is at most ``points`` (of 100) below ``reference``; None: there is none."""
    lowest = reference - points / 100 - 1e-9
    able = [member for member in accuracies if accuracies[member] >= lowest]
    return min(able, key=lambda member: (macs[member], -accuracies[member]), default=None)
