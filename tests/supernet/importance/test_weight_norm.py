from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from instatune_deploy.supernet.importance.weight_norm import weight_norm_importance
from instatune_deploy.supernet.network import SuperNetwork

from .conftest import HEAD_SIZE


def test_is_what_a_unit_reads_times_what_is_read_from_it(make_network: Callable[..., SuperNetwork]) -> None:
    network = make_network()
    heads, neurons = weight_norm_importance(network)
    layer = network.layers[1]
    first, second = layer.intermediate.dense, layer.output.dense
    row = [*first.weight[5].tolist(), first.bias[5].item()]
    np.testing.assert_allclose(neurons[1, 5], np.linalg.norm(row) * np.linalg.norm(second.weight[:, 5].tolist()), rtol=1e-5)
    own = slice(2 * HEAD_SIZE, 3 * HEAD_SIZE)
    attention = [layer.attention.self.query, layer.attention.self.key, layer.attention.self.value]
    row = [value for linear in attention for part in (linear.weight[own], linear.bias[own]) for value in part.flatten().tolist()]
    column = layer.attention.output.dense.weight[:, own].flatten().tolist()
    np.testing.assert_allclose(heads[1, 2], np.linalg.norm(row) * np.linalg.norm(column), rtol=1e-5)


def test_a_scale_moved_through_a_neuron_changes_nothing(make_network: Callable[..., SuperNetwork]) -> None:
    network = make_network()
    before = weight_norm_importance(network)
    with torch.no_grad():
        network.layers[0].intermediate.dense.weight[3] *= 7
        network.layers[0].intermediate.dense.bias[3] *= 7
        network.layers[0].output.dense.weight[:, 3] /= 7
    for one, other in zip(weight_norm_importance(network), before, strict=True):
        torch.testing.assert_close(one, other)
