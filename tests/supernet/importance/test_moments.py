from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from instatune_deploy.supernet.importance.inputs import Place
from instatune_deploy.supernet.importance.moments import DAMPING, input_moments
from instatune_deploy.supernet.network import SuperNetwork

from .conftest import batch


def test_are_those_of_the_tokens_that_are_not_padding(make_network: Callable[..., SuperNetwork]) -> None:
    network = make_network()
    moments = input_moments(network, [batch(0, 4), batch(4, 6)])
    assert len(moments) == 4
    place = Place(1, "mlp", "output.dense")
    seen = []
    for row in range(6):  # each alone and without any padding
        length = int(batch()["attention_mask"][row].sum())
        alone = {"input_ids": batch()["input_ids"][row : row + 1, :length]}
        handle = network.layers[1].intermediate.register_forward_hook(lambda *call: seen.append(call[2][0].numpy()))
        with torch.no_grad():
            network(**alone)
        handle.remove()
    inputs = np.concatenate(seen).astype(float)
    assert moments[place].tokens == len(inputs) == 8 + 3 + 5 + 8 + 2 + 6
    np.testing.assert_allclose(moments[place].mean, inputs.mean(axis=0), atol=1e-5)
    expected = inputs.T @ inputs / len(inputs)
    damped = expected + DAMPING * np.eye(len(expected)) * np.diag(expected).mean()
    np.testing.assert_allclose(moments[place].hessian, damped, rtol=1e-3, atol=1e-5)
