"""Order layers by importance, for the networks that keep only some of them."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from instatune_deploy.supernet.importance.inputs import Batch, at_full_width, on_device, undisturbed
from instatune_deploy.supernet.network import SuperNetwork


def layer_order(network: SuperNetwork, batches: Iterable[Batch]) -> list[int]:
    """All layers, most important first: the first n of them are what a depth of n keeps.

    From the full network, the layer without which the loss on the rows is lowest is removed, then the next from what
    remains; of equal ones the first. The layers that remain keep all heads and neurons.

    batches: with ``labels``; half the square of the number of layers times they are run
    """
    rows = list(on_device(network, batches))
    present = list(range(network.shape.layers))
    removed: list[int] = []
    with undisturbed(network):
        while len(present) > 1:
            losses = [_loss(network, rows, [other for other in present if other != layer]) for layer in present]
            removed.append(present.pop(losses.index(min(losses))))
    return [*present, *reversed(removed)]


@torch.no_grad()
def _loss(network: SuperNetwork, batches: list[Batch], layers: list[int]) -> float:
    """Sum over rows, with only these layers."""
    network.activate(at_full_width(network, tuple(layers)))
    return float(sum(network(**batch).loss.double() * len(batch["labels"]) for batch in batches))
