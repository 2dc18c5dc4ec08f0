from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.supernet.importance.taylor import taylor_importance
from instatune_deploy.supernet.network import SuperNetwork

from .conftest import WIDTH, batch


def by_finite_differences(network: SuperNetwork, path: str, layer: int, units: int) -> torch.Tensor:
    """Scale one unit by 1 +- eps in what goes into ``path``: half the difference over eps of each row's loss, absolute, mean."""
    model, eps = network.model.double(), 1e-5
    module = network.layers[layer].get_submodule(path)
    result = []
    for unit in range(units):
        losses = []
        for factor in (1 + eps, 1 - eps):

            def scale(
                module: nn.Module, arguments: tuple[torch.Tensor], unit: int = unit, factor: float = factor
            ) -> tuple[torch.Tensor]:
                hidden = arguments[0].clone()
                size = hidden.shape[-1] // units
                hidden[..., unit * size : (unit + 1) * size] *= factor
                return (hidden,)

            handle = module.register_forward_pre_hook(scale)
            with torch.no_grad():
                logits = model(**{name: value for name, value in batch().items() if name != "labels"}).logits
            handle.remove()
            losses.append(nn.functional.cross_entropy(logits, batch()["labels"], reduction="none"))
        result.append(((losses[0] - losses[1]) / (2 * eps)).abs().mean())
    return torch.stack(result).float()


def test_is_the_change_of_the_loss_by_finite_differences(make_network: Callable[..., SuperNetwork]) -> None:
    heads, neurons = taylor_importance(make_network(), [batch()])
    assert heads.shape == (2, 4)
    assert neurons.shape == (2, WIDTH)
    for layer in range(2):
        expected = by_finite_differences(make_network(), "attention.output.dense", layer, 4)
        torch.testing.assert_close(heads[layer], expected, rtol=1e-3, atol=1e-6)
        expected = by_finite_differences(make_network(), "output.dense", layer, WIDTH)
        torch.testing.assert_close(neurons[layer], expected, rtol=1e-3, atol=1e-6)


def test_every_row_counts_alike_whatever_its_batch(make_network: Callable[..., SuperNetwork]) -> None:
    network = make_network()
    whole = taylor_importance(network, [batch()])
    parts = taylor_importance(network, [batch(0, 4), batch(4, 5), batch(5, 6)])
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_leaves_the_network_as_it_was(make_network: Callable[..., SuperNetwork]) -> None:
    network = make_network()
    active = Architecture((1,), (2,), (3,))
    network.activate(active)
    network.train()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    first = taylor_importance(network, [batch()])
    second = taylor_importance(network, [batch()])  # dropout is off: no noise
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    assert network.training
    assert network.architecture == active
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not [hooks for module in network.modules() if (hooks := (module._forward_hooks or module._forward_pre_hooks))]


def test_a_head_without_effect_has_no_importance(make_network: Callable[..., SuperNetwork]) -> None:
    network = make_network()
    with torch.no_grad():
        network.layers[0].attention.output.dense.weight[:, :8] = 0
        network.layers[1].output.dense.weight[:, 4] = 0
    heads, neurons = taylor_importance(network, [batch()])
    assert heads[0, 0] == 0
    assert neurons[1, 4] == 0
    assert (heads == 0).sum() + (neurons == 0).sum() == 2
