from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch

from instatune_deploy.config import FinetuneSettings
from instatune_deploy.errors import BadInput
from instatune_deploy.supernet.importance import IMPORTANCE, importance_of, order_by_importance
from instatune_deploy.supernet.network import SuperNetwork

from .conftest import HEADS, WIDTH, batch, logits

NEED_ROWS = [method for method in IMPORTANCE if method != "weight-norm"]


@pytest.mark.parametrize("method", IMPORTANCE)
def test_the_most_important_come_first_and_the_full_network_computes_what_it_did(
    make_network: Callable[..., SuperNetwork], method: str
) -> None:
    network = make_network()
    heads, neurons = importance_of(network, [batch()], method)
    assert heads.shape == (2, HEADS)
    assert neurons.shape == (2, WIDTH)
    before = logits(network)
    # recognised by their rows of the query and of the first MLP matrix
    rows = network.layers[1].attention.self.query.bias.detach().view(HEADS, -1).clone()
    biases = network.layers[1].intermediate.dense.bias.detach().clone()
    order_by_importance(network, [batch()], method)
    torch.testing.assert_close(logits(network), before, rtol=0, atol=1e-5)
    expected = rows[heads[1].argsort(descending=True)]
    assert torch.equal(network.layers[1].attention.self.query.bias.detach().view(HEADS, -1), expected)
    assert torch.equal(network.layers[1].intermediate.dense.bias.detach(), biases[neurons[1].argsort(descending=True)])
    assert not torch.equal(expected, rows)


@pytest.mark.parametrize("method", IMPORTANCE)
def test_what_nobody_reads_comes_last(make_network: Callable[..., SuperNetwork], method: str) -> None:
    network = make_network()
    with torch.no_grad():
        network.layers[0].attention.output.dense.weight[:, :8] = 0
        network.layers[1].output.dense.weight[:, 4] = 0
    order_by_importance(network, [batch()], method)
    assert not network.layers[0].attention.output.dense.weight[:, 24:].any()
    assert not network.layers[1].output.dense.weight[:, -1].any()


@pytest.mark.parametrize("method", IMPORTANCE)
def test_the_same_every_time_and_nothing_is_left_behind(make_network: Callable[..., SuperNetwork], method: str) -> None:
    network = make_network().train()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    first, second = (importance_of(network, [batch()], method) for _ in range(2))  # dropout is off: no noise
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    assert network.training
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not [hooks for module in network.modules() if (hooks := (module._forward_hooks or module._forward_pre_hooks))]


@pytest.mark.parametrize("method", NEED_ROWS)
def test_rows_in_any_batches_give_the_same(make_network: Callable[..., SuperNetwork], method: str) -> None:
    whole = importance_of(make_network(), [batch()], method)
    parts = importance_of(make_network(), iter([batch(0, 4), batch(4, 5), batch(5, 6)]), method)
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("batches", [None, [], iter(())])
def test_without_rows_only_the_weights_can_tell(make_network: Callable[..., SuperNetwork], batches: Any) -> None:
    network = make_network()
    order_by_importance(network, batches, "weight-norm")
    for method in NEED_ROWS:
        with pytest.raises(BadInput, match=f"^importance '{method}' needs rows of data; 'weight-norm' needs none$"):
            order_by_importance(network, batches, method)


def test_an_unknown_name_is_bad_input(make_network: Callable[..., SuperNetwork]) -> None:
    with pytest.raises(
        BadInput, match=r"^importance 'tailor' is not known; known are: taylor, fisher, second-order, weight-norm$"
    ):
        order_by_importance(make_network(), [batch()], "tailor")


def test_the_settings_know_every_criterion() -> None:
    annotation = FinetuneSettings.model_fields["importance"].annotation
    assert set(get_args(annotation)) == set(IMPORTANCE)
