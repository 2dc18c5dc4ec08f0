from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.supernet.network import SuperNetwork
from instatune_deploy.supernet.sharing import shared_embeddings

from .test_network import MODEL_TYPES, VISION, inputs, inputs_of

SMALL = [Architecture((0, 3), (1, 2), (16, 5)), Architecture((3,), (2,), (8,))]


def lookups(network: SuperNetwork) -> list[int]:
    """One entry for every time that words are looked up, or patches made into tokens: its rows."""
    seen: list[int] = []
    vision = network.config.model_type in VISION
    words = network.embeddings.get_submodule("patch_embeddings" if vision else "word_embeddings")
    words.register_forward_hook(lambda module, given, output: seen.append(len(output)))
    return seen


def trained(network: SuperNetwork, batch: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """Outputs of the full network and two sub-networks; gradients of their sum are left in the network."""
    outputs = []
    for architecture in (network.shape.full(), *SMALL):
        network.activate(architecture)
        outputs.append(network(**batch).logits)
    torch.stack([output.sum() for output in outputs]).sum().backward()
    return outputs


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_the_same_outputs_and_gradients_from_one_computation(make_model: Callable[..., Any], model_type: str) -> None:
    batch = inputs_of(model_type, rows=5)
    apart, together = SuperNetwork(make_model(model_type)), SuperNetwork(make_model(model_type))
    expected = trained(apart, batch)
    seen = lookups(together)
    with shared_embeddings(together):
        found = trained(together, batch)
    assert seen == [5]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    gradients = {name: parameter.grad for name, parameter in apart.named_parameters() if parameter.grad is not None}
    assert any("word_embeddings" in name or "patch_embeddings" in name for name in gradients)
    for name, parameter in together.named_parameters():
        if name in gradients:
            torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("model_type", VISION)
def test_images_of_another_size_have_embeddings_of_their_own(make_model: Callable[..., Any], model_type: str) -> None:
    batch = {"pixel_values": torch.randn((2, 3, 16, 16), generator=torch.Generator().manual_seed(0))}
    members = [replace(SMALL[0], image_size=size) for size in (None, 8, 12, 8, 16)]

    def outputs(network: SuperNetwork) -> list[torch.Tensor]:
        found = []
        for member in members:
            network.activate(member)
            found.append(network(**batch).logits)
        torch.stack([output.sum() for output in found]).sum().backward()
        return found

    apart, together = (SuperNetwork(make_model(model_type, image_size=16)) for _ in range(2))
    expected, seen = outputs(apart), lookups(together)
    with shared_embeddings(together):
        found = outputs(together)
    assert len(seen) == 3  # 16 px, 8 px, 12 px
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    assert (found[0] - found[1]).abs().max() > 1e-3
    for one_parameter, other_parameter in zip(together.parameters(), apart.parameters(), strict=True):
        if other_parameter.grad is not None:
            torch.testing.assert_close(one_parameter.grad, other_parameter.grad, rtol=1e-3, atol=1e-4)


def changed_in_place(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    batch["input_ids"][0, 0] += 1
    return batch


@pytest.mark.parametrize(
    "change",
    [
        changed_in_place,
        lambda batch: {**batch, "input_ids": batch["input_ids"] + 1},
        lambda batch: {**batch, "position_ids": torch.arange(8, -1, -1)[None]},
        lambda batch: {**batch, "token_type_ids": torch.ones_like(batch["input_ids"])},
        lambda batch: {name: value[1:] for name, value in batch.items()},
    ],
    ids=["in place", "other ids", "other positions", "other types", "other rows"],
)
def test_another_input_is_computed_for_itself(make_model: Callable[..., Any], change: Callable[..., Any]) -> None:
    network, batch = SuperNetwork(make_model()), inputs(padded=False)
    seen = lookups(network)
    with shared_embeddings(network):
        first = network(**batch).logits
        other = change(batch)
        found = network(**other).logits
    assert len(seen) == 2
    torch.testing.assert_close(found, network(**other).logits)
    assert first.shape != found.shape or not torch.allclose(first, found)


def test_without_gradients_nothing_is_remembered_or_taken(make_model: Callable[..., Any]) -> None:
    network, batch = SuperNetwork(make_model()), inputs()
    seen = lookups(network)
    with shared_embeddings(network):
        with torch.no_grad():
            network(**batch)
        network(**batch)  # must have a gradient
        with torch.no_grad():
            network(**batch)
        assert network(**batch).logits.requires_grad
    assert len(seen) == 3


def test_afterwards_the_module_is_as_it_was(make_model: Callable[..., Any]) -> None:
    network, batch = SuperNetwork(make_model()), inputs()
    with pytest.raises(KeyboardInterrupt), shared_embeddings(network):
        raise KeyboardInterrupt
    assert "forward" not in vars(network.embeddings)
    own = network.embeddings.forward
    network.embeddings.__dict__["forward"] = wrapper = lambda **named: own(**named) * 2
    with torch.no_grad():
        doubled = network(**batch).logits
    with shared_embeddings(network):
        torch.testing.assert_close(network(**batch).logits, doubled)
    assert vars(network.embeddings)["forward"] is wrapper
