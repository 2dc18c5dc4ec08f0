from __future__ import annotations

import itertools

import pytest
import torch

from instatune_deploy.errors import BadInput
from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.supernet.importance import layer_order
from instatune_deploy.supernet.network import SuperNetwork

from .conftest import batch, logits


def silence(network: SuperNetwork, layer: int) -> None:
    """Make a layer give what it gets, but for the norms."""
    with torch.no_grad():
        for linear in (network.layers[layer].attention.output.dense, network.layers[layer].output.dense):
            linear.weight.zero_()
            linear.bias.zero_()


def without(network: SuperNetwork, *layers: int) -> float:
    """The loss of the rows without these layers, from their logits."""
    kept = tuple(layer for layer in range(4) if layer not in layers)
    with network.active(Architecture(kept, (4,) * len(kept), (64,) * len(kept))):
        return float(torch.nn.functional.cross_entropy(logits(network), batch()["labels"]))


def test_the_least_important_goes_first_and_then_what_remains_is_looked_at_again(tiny_network: SuperNetwork) -> None:
    order = layer_order(tiny_network, [batch(0, 4), batch(4, 6)])
    assert sorted(order) == [0, 1, 2, 3]
    for gone, layer in enumerate(reversed(order[1:])):
        before = order[len(order) - gone :]
        losses = {other: without(tiny_network, other, *before) for other in order if other not in before}
        assert min(losses, key=losses.__getitem__) == layer


def test_a_layer_that_the_label_hangs_on_stays(tiny_network: SuperNetwork) -> None:
    for layer in (0, 1, 3):
        silence(tiny_network, layer)
        for norm in (tiny_network.layers[layer].attention.output.LayerNorm, tiny_network.layers[layer].output.LayerNorm):
            torch.nn.init.ones_(norm.weight)
            torch.nn.init.zeros_(norm.bias)
    rows = batch()
    rows["labels"] = logits(tiny_network).argmax(dim=1)
    if without(tiny_network, 2) <= without(tiny_network):
        pytest.fail("layer 2 decides nothing")
    assert layer_order(tiny_network, [rows])[0] == 2


@pytest.mark.parametrize("training", [True, False])
def test_the_same_every_time_and_the_network_as_it_was(tiny_network: SuperNetwork, training: bool) -> None:
    tiny_network.train(training)
    active = Architecture((1, 2), (2, 3), (3, 5))
    tiny_network.activate(active)
    orders = [layer_order(tiny_network, iter([batch()])) for _ in range(2)]
    assert orders[0] == orders[1]
    assert tiny_network.architecture == active
    assert tiny_network.training == training


def test_of_equal_ones_the_first_goes_first(tiny_network: SuperNetwork) -> None:
    torch.nn.init.zeros_(tiny_network.model.classifier.weight)
    losses = {without(tiny_network, *gone) for gone in itertools.combinations(range(4), 2)}
    assert len(losses) == 1
    assert layer_order(tiny_network, [batch()]) == [3, 2, 1, 0]


def test_without_rows_it_is_bad_input(tiny_network: SuperNetwork) -> None:
    with pytest.raises(BadInput, match=r"^rows of data are needed"):
        layer_order(tiny_network, [])
