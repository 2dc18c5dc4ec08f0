"""Importance by the norm of the weights, where there are no rows to look at.

Li et al., arXiv 1608.08710, for filters. A neuron's effect is bounded by the norm of what it reads times the norm of what is
read from it, so the two are multiplied: scaling one up and the other down changes neither the network nor the order.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from instatune_deploy.supernet.importance.inputs import Batch, Importance
from instatune_deploy.supernet.network import SuperNetwork


@torch.no_grad()
def weight_norm_importance(network: SuperNetwork, batches: Iterable[Batch] = ()) -> Importance:
    """Frobenius norm of the rows that compute a unit (with their biases) times that of the columns that read it.

    batches: not looked at.
    """
    shape, family = network.shape, network.family
    heads, neurons = [], []
    for index in range(shape.layers):
        layer = network.layers[index]
        heads.append(_norms(layer, family.heads_out, family.heads_in, shape.heads))
        neurons.append(_norms(layer, family.mlp_out, family.mlp_in, shape.mlp_width))
    return torch.stack(heads), torch.stack(neurons)


def _norms(layer: nn.Module, outputs: tuple[str, ...], inputs: tuple[str, ...], units: int) -> torch.Tensor:
    """(units,): blocks of rows of ``outputs`` and of columns of ``inputs``, equally large."""
    computed, read = torch.zeros(units), torch.zeros(units)
    for path in outputs:
        linear = layer.get_submodule(path)
        for parameter in linear.parameters(recurse=False):  # weight (units * size, hidden), bias (units * size,)
            computed += parameter.float().reshape(units, -1).square().sum(dim=1).cpu()
    for path in inputs:
        weight = layer.get_submodule(path).get_parameter("weight")  # (hidden, units * size)
        read += weight.float().T.reshape(units, -1).square().sum(dim=1).cpu()
    return (computed * read).sqrt()
