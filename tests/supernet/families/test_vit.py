"""ViT and DeiT."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from instatune_deploy.config import SpaceSettings
from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.supernet.elastic import NoHeads
from instatune_deploy.supernet.families import family_of
from instatune_deploy.supernet.families.vit import FAMILY
from instatune_deploy.supernet.load import model_from_config
from instatune_deploy.supernet.network import SuperNetwork, model_shape
from instatune_deploy.supernet.space import SearchSpace

PIXELS = torch.randn((2, 3, 16, 12), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("model_type", ["vit", "deit"])
def test_family_of(model_type: str) -> None:
    assert family_of(model_type, "here") is FAMILY


@pytest.mark.parametrize(
    ("model_type", "image", "patch", "positions"),
    [("vit", 224, 16, 197), ("deit", 224, 16, 198), ("vit", [16, 12], 4, 13), ("vit", 30, [16, 10], 4)],
)
def test_positions_are_patches_and_class_tokens(
    make_config: Callable[..., Any], model_type: str, image: Any, patch: Any, positions: int
) -> None:
    assert FAMILY.positions(make_config(model_type, image_size=image, patch_size=patch)) == positions


def test_vit_b_16_has_17_56_billion_macs() -> None:
    """As InstaTune reports it (arXiv 2308.15609): with the patches, without the classifier."""
    from transformers import ViTConfig

    with torch.device("meta"):
        model = model_from_config(ViTConfig())
    shape = model_shape(model, FAMILY)
    patches, layers = 196 * 768 * (3 * 16 * 16), 12 * (4 * 197 * 768 * 768 + 2 * 197 * 197 * 768 + 2 * 197 * 768 * 3072)
    assert shape.macs_of(shape.full(), 197) == patches + layers
    assert round((patches + layers) / 1e9, 2) == 17.56
    space = SearchSpace.of(shape, SpaceSettings())  # the paper's
    assert (space.depths, space.heads, space.mlp_widths) == ((11, 12), (6, 8, 10, 12), (2048, 2560, 3072))


def test_an_attention_without_heads_leaves_the_bias_of_its_output_matrix(make_model: Callable[..., Any]) -> None:
    network = SuperNetwork(make_model("vit"))
    architecture = Architecture((0, 2), (0, 4), (64, 0))
    small = network.extract(architecture)
    first, second = small.vit.layers
    assert type(first.attention) is NoHeads
    assert type(second.attention).__name__ == "ViTAttention"
    assert {name for name, _ in first.attention.named_parameters()} == {"o_proj.weight", "o_proj.bias"}
    output, weights = first.attention(torch.ones(2, 5, 32))
    torch.testing.assert_close(output, first.attention.o_proj.bias.expand(2, 5, 32))
    assert weights is None
    network.activate(architecture)
    with torch.no_grad():
        torch.testing.assert_close(small(PIXELS).logits, network(pixel_values=PIXELS).logits, rtol=0, atol=1e-6)


def test_without_biases_of_query_key_and_value(make_model: Callable[..., Any]) -> None:
    network = SuperNetwork(make_model("vit", qkv_bias=False))
    assert network.shape.head_biases == 0
    architecture = Architecture((1, 3), (1, 3), (7, 64))
    small = network.extract(architecture)
    assert sum(parameter.numel() for parameter in small.parameters()) == network.shape.parameters_of(architecture)
