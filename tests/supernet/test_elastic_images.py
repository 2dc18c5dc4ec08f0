from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from instatune_deploy.errors import BadInput
from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.supernet.elastic_images import ElasticEmbeddings, shrunk
from instatune_deploy.supernet.network import SuperNetwork

FAMILIES = ["vit", "deit"]
OWN = 24
"""Pixels: 6 x 6 patches of 4."""


@pytest.fixture(scope="module")
def networks(make_model: Callable[..., Any]) -> dict[str, SuperNetwork]:
    return {family: SuperNetwork(make_model(family, image_size=OWN)).eval() for family in FAMILIES}


def pixels(edge: int, seed: int = 0) -> torch.Tensor:
    return torch.randn((2, 3, edge, edge), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=15)
@given(edge=st.sampled_from([4, 8, 12, 20, 24]), heads=st.integers(0, 4), width=st.integers(1, 64), seed=st.integers(0, 99))
@torch.no_grad()
def test_extracted_computes_what_is_activated(
    networks: dict[str, SuperNetwork], family: str, edge: int, heads: int, width: int, seed: int
) -> None:
    network, architecture = networks[family], Architecture((0, 3), (heads, 4), (width, 64), edge)
    small = network.extract(architecture)
    image = pixels(edge, seed)
    with network.active(architecture):
        torch.testing.assert_close(small(pixel_values=image).logits, network(pixel_values=image).logits, rtol=0, atol=1e-5)
    assert sum(parameter.numel() for parameter in small.parameters()) == network.shape.parameters_of(architecture)
    assert small.config.image_size == edge
    assert not any(isinstance(module, ElasticEmbeddings) for module in small.modules())


@torch.no_grad()
def test_a_smaller_image_is_another_network_and_the_full_one_comes_back(networks: dict[str, SuperNetwork]) -> None:
    network = networks["vit"]
    full = network.shape.full()
    before = network(pixel_values=pixels(OWN)).logits
    with network.active(Architecture(full.layers, full.heads, full.mlp_widths, 12)):
        smaller = network(pixel_values=pixels(OWN)).logits
        # what is larger is shrunk first
        assert torch.equal(smaller, network(pixel_values=shrunk(pixels(OWN), 12)).logits)
    assert (smaller - before).abs().max() > 1e-3
    assert torch.equal(network(pixel_values=pixels(OWN)).logits, before)
    with network.active(Architecture(full.layers, full.heads, full.mlp_widths, OWN)):
        assert torch.equal(network(pixel_values=pixels(OWN)).logits, before)


def test_gradients_reach_the_positions_of_the_full_size(make_model: Callable[..., Any]) -> None:
    network = SuperNetwork(make_model("vit", image_size=OWN)).train()
    network.activate(Architecture((0, 1), (4, 4), (64, 64), 12))
    network(pixel_values=pixels(OWN)).logits.sum().backward()
    positions = network.model.vit.embeddings.position_embeddings
    assert positions.shape == (1, 37, 32)
    assert (positions.grad != 0).float().mean() > 0.5


def test_shrunk_averages_what_it_puts_together() -> None:
    """Antialiased: stripes of -1 and 1 become grey, away from the edges; a plain image stays plain."""
    stripes = torch.tensor([-1.0, 1.0]).repeat(8).expand(1, 1, 16, 16)
    assert shrunk(stripes, 4)[..., 1:-1].abs().max() < 0.1
    assert torch.allclose(shrunk(torch.full((1, 3, 16, 16), 0.7), 4), torch.full((1, 3, 4, 4), 0.7), atol=1e-6)
    assert shrunk(stripes.to(torch.bfloat16), 4).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("model_type", "sizes", "edge", "said"),
    [
        ("bert", {}, 12, "super-network: images of 12 px: this model takes no images of another size"),
        ("vit", {"image_size": [16, 12]}, 12, "super-network: images of 12 px: this model takes no images of another size"),
        ("vit", {"image_size": OWN}, 14, "image size: 14 px are no multiple of the model's patch of 4 px; 12 or 16 are"),
    ],
)
def test_what_has_no_other_size(
    make_model: Callable[..., Any], model_type: str, sizes: dict[str, Any], edge: int, said: str
) -> None:
    network = SuperNetwork(make_model(model_type, **sizes))
    with pytest.raises(BadInput) as caught:
        network.activate(Architecture((0,), (4,), (64,), edge))
    assert caught.value.message == said
