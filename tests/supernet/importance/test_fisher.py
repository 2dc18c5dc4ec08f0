from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from instatune_deploy.supernet.importance.fisher import cheapest_first, fisher_importance, gradient_moments
from instatune_deploy.supernet.importance.inputs import Place
from instatune_deploy.supernet.importance.moments import input_moments
from instatune_deploy.supernet.network import SuperNetwork

from .conftest import batch


def greedily(cost: np.ndarray) -> list[int]:
    """Every round all units are tried."""
    removed: list[int] = []
    while len(removed) < len(cost):
        rest = [unit for unit in range(len(cost)) if unit not in removed]
        removed.append(min(rest, key=lambda unit: cost[np.ix_([*removed, unit], [*removed, unit])].sum()))
    return removed


@given(units=st.integers(1, 8), seed=st.integers(0, 10**6))
def test_each_adds_least_to_the_cost_of_all(units: int, seed: int) -> None:
    factor = np.random.default_rng(seed).normal(size=(units, units))
    assert cheapest_first(torch.from_numpy(factor @ factor.T)) == greedily(factor @ factor.T)


def test_two_that_cancel_go_one_after_the_other() -> None:
    """Alone each costs 4; together they cost nothing."""
    cost = torch.tensor([[4.0, 0.0, -4.0, 0.0], [0.0, 5.0, 0.0, 0.0], [-4.0, 0.0, 4.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    assert cheapest_first(cost) == [3, 0, 2, 1]


def test_gradients_are_those_of_each_rows_own_loss(make_network: Callable[..., SuperNetwork]) -> None:
    network = make_network()
    expected = torch.zeros(32, 32, dtype=torch.float64)
    for row in range(6):
        outputs: list[torch.Tensor] = []
        handle = network.layers[0].output.dense.register_forward_hook(lambda *call, to=outputs: to.append(call[2]))
        (gradient,) = torch.autograd.grad(network(**batch(row, row + 1)).loss, outputs)
        handle.remove()
        expected += gradient[0].double().T @ gradient[0].double()
    moments = gradient_moments(network, [batch(0, 4), batch(4, 6)])
    assert len(moments) == 4
    torch.testing.assert_close(moments[Place(0, "mlp", "output.dense")], expected, rtol=1e-3, atol=1e-8)


def test_of_a_network_it_is_the_greedy_order_of_the_weighted_error(make_network: Callable[..., SuperNetwork]) -> None:
    network = make_network()
    heads, _ = fisher_importance(network, [batch()])
    place = Place(1, "heads", "attention.output.dense")
    inputs = input_moments(network, [batch()])[place].products.double().numpy()
    gradients = gradient_moments(network, [batch()])[place].numpy()
    weight = place.linear(network).weight.detach().double().numpy()
    cost = np.zeros((4, 4))
    for one, other in np.ndindex(4, 4):
        a, b = slice(8 * one, 8 * one + 8), slice(8 * other, 8 * other + 8)
        cost[one, other] = np.trace(gradients @ weight[:, a] @ inputs[a, b] @ weight[:, b].T)
    assert heads[1].argsort().tolist() == greedily(cost)
