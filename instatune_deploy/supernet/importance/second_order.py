"""Importance by second-order pruning: in which order a layer loses units when what remains is always corrected for it.

ZipLM (Kurtic et al., arXiv 2302.04089, Eq. 2 and 3), after the Optimal Brain Surgeon (Hassibi and Stork, 1992), of the matrix W
that reads the units, with H the second moments of its inputs: without the columns S the output changes least, by
tr(W_S inv(inv(H)_SS) W_S^T) a token, when W becomes W - W_S inv(inv(H)_SS) inv(H)_S.

Only the order is used here: a super-network's sub-networks share their weights, and a correction is right for one size only
(`correction` makes it for that one).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from instatune_deploy.supernet.importance.inputs import Batch, Importance, Kind, Place, by_round, per_unit
from instatune_deploy.supernet.importance.moments import Moments, input_moments
from instatune_deploy.supernet.network import SuperNetwork

ROUNDS = 64
"""Units leave the large inverse in so many rounds; which ones, and in which order, is found one by one in a small one."""
CANDIDATES = 2
"""The units looked at in a round, as a multiple of those that leave."""


def second_order_importance(network: SuperNetwork, batches: Iterable[Batch]) -> Importance:
    """The round in which each head and neuron is removed, one at a time, the cheapest first: 0 is the least important."""
    moments = input_moments(network, batches)

    def of(layer: int, kind: Kind, units: int) -> torch.Tensor:
        seen = {place: moment for place, moment in moments.items() if (place.layer, place.kind) == (layer, kind)}
        return by_round(removal_order(*_matrices(network, seen), units))

    return per_unit(network, of)


def _matrices(network: SuperNetwork, seen: dict[Place, Moments]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    tokens = sum(moment.tokens for moment in seen.values())
    weights = [place.linear(network).weight.detach().double() for place in seen]
    hessians = [moment.hessian * (moment.tokens / tokens) for moment in seen.values()]
    return weights, hessians


def removal_order(
    weights: Sequence[torch.Tensor], hessians: Sequence[torch.Tensor], units: int, rounds: int = ROUNDS
) -> list[int]:
    """The units in the order in which they are removed.

    weights:  matrices that read the units, (outputs, units * size) each; unit i is columns i * size to (i + 1) * size
    hessians: of the input of each, (units * size, units * size), positive definite
    """
    weights = list(weights)
    inverses = [torch.cholesky_inverse(torch.linalg.cholesky(hessian)) for hessian in hessians]
    present = torch.arange(units, device=weights[0].device)
    removed: list[int] = []
    while len(present) > 1:
        leave = min(max(1, units // rounds), len(present) - 1)
        candidates = _costs(weights, inverses, len(present)).argsort(stable=True)[: CANDIDATES * leave]
        columns = [_columns(candidates, weight.shape[1] // len(present)) for weight in weights]
        small = [weight[:, some] for weight, some in zip(weights, columns, strict=True)]
        blocks = [inverse[some][:, some] for inverse, some in zip(inverses, columns, strict=True)]
        chosen = candidates[_greedily(small, blocks, len(candidates), leave)]
        removed += present[chosen].tolist()
        stay = _others(chosen, len(present))
        weights, inverses = _without(weights, inverses, chosen, stay)
        present = present[stay]
    return [*removed, *present.tolist()]


def _greedily(weights: list[torch.Tensor], inverses: list[torch.Tensor], units: int, leave: int) -> torch.Tensor:
    """The ``leave`` units that are the cheapest to remove one after the other: (leave,) int64."""
    present = torch.arange(units, device=weights[0].device)
    removed = []
    for _ in range(leave):
        chosen = _costs(weights, inverses, len(present)).argmin()[None]
        removed.append(present[chosen])
        stay = _others(chosen, len(present))
        weights, inverses = _without(weights, inverses, chosen, stay)
        present = present[stay]
    return torch.cat(removed)


def _costs(weights: list[torch.Tensor], inverses: list[torch.Tensor], units: int) -> torch.Tensor:
    """What removing each unit costs: (units,). Eq. 2."""
    total = weights[0].new_zeros(units)
    for weight, inverse in zip(weights, inverses, strict=True):
        of_unit = weight.view(len(weight), units, -1)
        size = of_unit.shape[-1]
        grams = torch.einsum("oui,ouj->uij", of_unit, of_unit)
        blocks = inverse.view(units, size, units, size).diagonal(dim1=0, dim2=2).permute(2, 0, 1)
        total += (torch.linalg.inv(blocks) * grams).sum(dim=(1, 2))
    return total


def _without(
    weights: list[torch.Tensor], inverses: list[torch.Tensor], chosen: torch.Tensor, stay: torch.Tensor
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The corrected columns that stay, and the inverse of their own Hessian. Eq. 3."""
    units = len(chosen) + len(stay)
    corrected, remaining = [], []
    for weight, inverse in zip(weights, inverses, strict=True):
        size = weight.shape[1] // units
        out, rest = _columns(chosen, size), _columns(stay, size)
        across = inverse[out][:, rest]
        gain = torch.linalg.solve(inverse[out][:, out], across)
        corrected.append(weight[:, rest] - weight[:, out] @ gain)
        remaining.append(inverse[rest][:, rest] - across.T @ gain)
    return corrected, remaining


def _columns(units: torch.Tensor, size: int) -> torch.Tensor:
    """The columns of these units: (units * size,)."""
    return (units[:, None] * size + torch.arange(size, device=units.device)).flatten()


def _others(chosen: torch.Tensor, units: int) -> torch.Tensor:
    """The units that are not chosen, in their order."""
    mask = torch.ones(units, dtype=torch.bool, device=chosen.device)
    mask[chosen] = False
    return mask.nonzero()[:, 0]
