"""Importance by second order of the loss, for weights that stay as they are: which prefixes change the loss least.

Without the units R, and with nothing corrected, the output of the matrix W that reads them lacks W_R x_R. To second order the
loss then grows by tr(G W_R H_RR W_R^T) / 2, with H the second moments of the matrix's inputs x and G those of the gradients of
the loss by its outputs: the Fisher information in Kronecker factors (Martens and Grosse, arXiv 1503.05671). How units add up or
make up for each other is in it, which `taylor` does not see; and unlike `second_order` it is about networks that share weights.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing

import torch

from instatune_deploy.supernet.importance.inputs import (
    Batch,
    Importance,
    Kind,
    Place,
    by_round,
    per_unit,
    with_gradients,
)
from instatune_deploy.supernet.importance.moments import input_moments
from instatune_deploy.supernet.network import SuperNetwork


def fisher_importance(network: SuperNetwork, batches: Iterable[Batch]) -> Importance:
    """The round in which each head and neuron is removed, one at a time, the cheapest first: 0 is the least important.

    batches: with ``labels``
    """
    rows = list(batches)
    moments, gradients = input_moments(network, rows), gradient_moments(network, rows)

    def of(layer: int, kind: Kind, units: int) -> torch.Tensor:
        cost = torch.zeros(units, units, dtype=torch.float64)
        for place in moments:
            if (place.layer, place.kind) == (layer, kind):
                weight = place.linear(network).weight.detach().double()
                # of several matrices that read the same units, each weighs by its tokens: G is a sum over them, H their mean
                products = (weight.T @ gradients[place] @ weight) * moments[place].products.double() / moments[place].tokens
                size = len(products) // units
                cost += products.view(units, size, units, size).sum(dim=(1, 3)).cpu()
        return by_round(cheapest_first(cost))

    return per_unit(network, of)


def cheapest_first(cost: torch.Tensor) -> list[int]:
    """The units in an order in which each adds least to what the removed ones cost together.

    cost: (units, units), symmetric; without the units R it is the sum of the entries of R x R
    """
    added = cost.diagonal().clone()
    order = []
    for _ in range(len(cost)):
        unit = int(added.argmin())
        order.append(unit)
        added += 2 * cost[unit]
        added[unit] = torch.inf
    return order


def gradient_moments(network: SuperNetwork, batches: Iterable[Batch]) -> dict[Place, torch.Tensor]:
    """Sum over tokens of g g^T, g the gradient of a row's loss by what a `Place` gives: (hidden, hidden) float64 each."""
    moments: dict[Place, torch.Tensor] = {}
    with closing(with_gradients(network, batches, "outputs")) as found_by_batch:  # also when a user stops it
        for _, found in found_by_batch:
            for place, _, gradient in found:
                # the batch's loss is the mean of its rows'; padding has no gradient
                of_tokens = gradient.flatten(0, -2).float() * len(gradient)
                product = (of_tokens.T @ of_tokens).double()
                moments[place] = moments[place] + product if place in moments else product
    return moments
