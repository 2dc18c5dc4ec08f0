"""Importance by first-order Taylor: what the loss would do without a unit, from its gradient.

Molchanov et al., arXiv 1611.06440; for heads Michel et al., arXiv 1905.10650: removing a unit changes the loss by about
|activation x gradient|, averaged over rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing

import torch

from instatune_deploy.supernet.importance.inputs import Batch, Importance, Kind, per_unit, with_gradients
from instatune_deploy.supernet.network import SuperNetwork


def taylor_importance(network: SuperNetwork, batches: Iterable[Batch]) -> Importance:
    """Mean over rows of |sum over tokens of activation x gradient of the row's loss|; >= 0.

    batches: with ``labels``.
    """
    shape = network.shape
    sizes: dict[Kind, int] = {"heads": shape.heads, "mlp": shape.mlp_width}
    importance = {(layer, kind): torch.zeros(units) for layer in range(shape.layers) for kind, units in sizes.items()}
    rows = 0
    with closing(with_gradients(network, batches, "inputs")) as found_by_batch:  # also when a user stops it
        for batch, found in found_by_batch:
            changes: dict[tuple[int, Kind], torch.Tensor] = {}
            for place, activation, gradient in found:
                key = (place.layer, place.kind)
                # (rows, tokens, units) -> per row the change of its loss if a unit were zero; the batch's is their mean
                change = (activation.detach().float() * gradient.float()).sum(dim=1) * len(activation)
                # where several matrices read the same units (experts), each of them its own tokens
                changes[key] = changes[key] + change if key in changes else change
            for key, change in changes.items():
                units = len(importance[key])
                importance[key] += change.view(len(change), units, -1).sum(dim=-1).abs().sum(dim=0).cpu()
            rows += len(batch["labels"])
    return per_unit(network, lambda layer, kind, units: importance[layer, kind] / rows)
