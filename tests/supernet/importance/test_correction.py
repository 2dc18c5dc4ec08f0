from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from instatune_deploy.errors import BadInput
from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.supernet.importance import correct_prefixes, corrected, order_by_importance
from instatune_deploy.supernet.network import SuperNetwork

from .conftest import batch, logits


def rows(seed: int, count: int = 64) -> dict[str, torch.Tensor]:
    """Sentences of a few words that come together, so that units lean on each other."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.randint(5, 25, (count, 1), generator=generator)
    ids = first + torch.randint(0, 4, (count, 9), generator=generator)
    mask = (torch.arange(9) < torch.randint(4, 10, (count, 1), generator=generator)).long()
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize("layers", [(0, 1, 2, 3), (0, 3)])
def test_is_nearer_to_the_full_network_than_what_is_extracted(tiny_network: SuperNetwork, layers: tuple[int, ...]) -> None:
    order_by_importance(tiny_network, [rows(0)], "second-order")
    full = Architecture(layers, (4,) * len(layers), (64,) * len(layers))
    small = Architecture(layers, (2,) * len(layers), (24,) * len(layers))
    with tiny_network.active(full):
        target = logits(tiny_network, rows(1))
    plain = (logits(tiny_network.extract(small), rows(1)) - target).norm()
    fitted = corrected(tiny_network, [rows(0)], small)
    assert (logits(fitted, rows(1)) - target).norm() < 0.5 * plain
    assert sum(parameter.numel() for parameter in fitted.parameters()) == tiny_network.shape.parameters_of(small)


def test_nothing_gone_nothing_corrected(tiny_network: SuperNetwork) -> None:
    full = corrected(tiny_network, [rows(0)], tiny_network.shape.full())
    torch.testing.assert_close(logits(full, rows(1)), logits(tiny_network, rows(1)), rtol=0, atol=1e-4)


def test_the_matrices_are_least_squares_fits_with_a_bias(make_network: Callable[..., SuperNetwork], monkeypatch: Any) -> None:
    monkeypatch.setattr("instatune_deploy.supernet.importance.moments.DAMPING", 0.0)
    network = make_network()
    small = corrected(network, [batch()], Architecture((0, 1), (2, 4), (5, 7)))
    calls: dict[str, np.ndarray] = {}
    layer = network.layers[1].output.dense
    layer.register_forward_hook(lambda *call: calls.update(x=call[1][0].double().numpy(), y=call[2].double().numpy()))
    logits(network)
    mask = batch()["attention_mask"].bool().numpy()
    kept, y = calls["x"][mask][:, :7], calls["y"][mask]
    design = np.concatenate([kept, np.ones((len(kept), 1))], axis=1)
    best = np.linalg.lstsq(design, y, rcond=None)[0]
    fitted = small.bert.encoder.layer[1].output.dense
    np.testing.assert_allclose(fitted.weight.detach().numpy(), best[:-1].T, rtol=1e-2, atol=1e-3)
    np.testing.assert_allclose(fitted.bias.detach().numpy(), best[-1], rtol=1e-2, atol=1e-3)
    # what stays whole stays as it is
    whole = small.bert.encoder.layer[1].attention.output.dense
    torch.testing.assert_close(whole.weight, network.layers[1].attention.output.dense.weight, rtol=1e-3, atol=1e-4)


def test_of_what_is_gone_entirely_the_mean_stays(make_network: Callable[..., SuperNetwork]) -> None:
    network = make_network()
    small = corrected(network, [batch()], Architecture((0, 1), (4, 0), (0, 12)))
    outputs: list[torch.Tensor] = []
    hook = lambda *call: outputs.append(call[2].detach()[batch()["attention_mask"].bool()])  # noqa: E731
    network.layers[0].output.dense.register_forward_hook(hook)
    network.layers[1].attention.output.dense.register_forward_hook(hook)
    logits(network)
    gone = [small.bert.encoder.layer[0].output.dense, small.bert.encoder.layer[1].attention.output.dense]
    for linear, seen in zip(gone, outputs, strict=True):
        assert linear.weight.numel() == 0
        torch.testing.assert_close(linear.bias.detach(), seen.mean(dim=0), rtol=1e-4, atol=1e-5)
    assert logits(small).isfinite().all()


def test_the_network_stays_as_it_was(tiny_network: SuperNetwork) -> None:
    state = {name: value.clone() for name, value in tiny_network.state_dict().items()}
    corrected(tiny_network, [rows(0)], Architecture((1,), (2,), (8,)))
    assert all(torch.equal(value, state[name]) for name, value in tiny_network.state_dict().items())
    assert tiny_network.architecture == tiny_network.shape.full()


def test_one_matrix_for_all_prefixes_errs_least_in_all_together(make_network: Callable[..., SuperNetwork]) -> None:
    """Against gradient descent's stopping condition: no small change of any weight makes the sum of the errors smaller."""
    network, widths = make_network(), (3, 7, 12)
    seen: list[np.ndarray] = []
    handle = network.layers[1].output.dense.register_forward_pre_hook(lambda *call: seen.append(call[1][0].double().numpy()))
    logits(network)
    handle.remove()
    x = seen[0][batch()["attention_mask"].bool().numpy()]
    old = network.layers[1].output.dense
    target = x @ old.weight.detach().double().numpy().T + old.bias.detach().double().numpy()
    before = old.weight.detach().double().numpy().copy()
    correct_prefixes(network, [batch()], (1, 4), widths[:2])
    new = network.layers[1].output.dense
    weight, bias = new.weight.detach().double().numpy(), new.bias.detach().double().numpy()
    damping = 0.01 * np.square(x).mean()

    def error(weight: np.ndarray, bias: np.ndarray) -> float:
        total = 0.0
        for width in widths:
            prefix = np.where(np.arange(12) < width, weight, 0.0)
            total += np.square(x @ prefix.T + bias - target).sum() / len(x) + damping * np.square(prefix - before).sum()
        return total

    best = error(weight, bias)
    rng = np.random.default_rng(0)
    for _ in range(50):
        for sign in (1, -1):
            change = sign * 1e-3 * rng.normal(size=weight.shape)
            assert error(weight + change, bias) > best
            assert error(weight, bias + sign * 1e-3 * rng.normal(size=bias.shape)) > best
    # what no size goes without stays as it is where only the full size is asked for
    only_full = make_network()
    correct_prefixes(only_full, [batch()], (4,), (12,))
    torch.testing.assert_close(logits(only_full), logits(make_network()), rtol=0, atol=1e-3)


def test_prefixes_come_nearer_and_the_full_network_stays_near(tiny_network: SuperNetwork) -> None:
    order_by_importance(tiny_network, [rows(0)], "second-order")
    target = logits(tiny_network, rows(1))
    small = Architecture((0, 1, 2, 3), (2,) * 4, (24,) * 4)

    def distance(architecture: Architecture) -> float:
        with tiny_network.active(architecture):
            return float((logits(tiny_network, rows(1)) - target).norm())

    plain = distance(small)
    correct_prefixes(tiny_network, [rows(0)], (2, 4), (24, 64))
    assert distance(small) < 0.6 * plain
    assert distance(tiny_network.shape.full()) < 0.5 * plain


def test_without_rows_it_is_bad_input(tiny_network: SuperNetwork) -> None:
    with pytest.raises(BadInput, match=r"^rows of data are needed"):
        corrected(tiny_network, [], Architecture((1,), (2,), (8,)))
    with pytest.raises(BadInput, match=r"^rows of data are needed"):
        correct_prefixes(tiny_network, [], (2,), (8,))
