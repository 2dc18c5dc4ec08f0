from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from instatune_deploy.errors import BadInput
from instatune_deploy.supernet.network import SuperNetwork
from instatune_deploy.supernet.positions import resized

FAMILIES = ["vit", "deit"]


def pixels(height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randn((2, 3, height, width), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("model_type", FAMILIES)
@pytest.mark.parametrize("size", [8, 20, 36])
@torch.no_grad()
def test_as_transformers_interpolates(make_model: Callable[..., Any], model_type: str, size: int) -> None:
    model = make_model(model_type, image_size=28)
    image = pixels(size, size)
    expected = model(pixel_values=image, interpolate_pos_encoding=True).logits
    resized(model, size)
    assert torch.allclose(model(pixel_values=image).logits, expected, atol=1e-5)
    base = getattr(model, model.base_model_prefix)
    assert base.embeddings.position_embeddings.shape == (1, (size // 4) ** 2 + (2 if model_type == "deit" else 1), 32)
    assert base.embeddings.patch_embeddings.num_patches == (size // 4) ** 2
    assert base.embeddings.position_embeddings.requires_grad
    assert model.config.image_size == size
    assert "interpolate" not in str(torch.export.export(model, (image,)).graph)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_own_size_changes_nothing(make_model: Callable[..., Any], model_type: str) -> None:
    model = make_model(model_type, image_size=[16, 16])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    parameters = dict(model.named_parameters())
    resized(model, 16)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameters[name] is value for name, value in model.named_parameters())
    assert model.config.image_size == [16, 16]


@pytest.mark.parametrize("model_type", FAMILIES)
@torch.no_grad()
def test_there_and_saved(make_model: Callable[..., Any], tmp_path: Any, model_type: str) -> None:
    """A checkpoint of it is one for images of the new size."""
    model = make_model(model_type, image_size=32)
    resized(model, 12)
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path).eval()
    assert torch.equal(again(pixel_values=pixels(12, 12)).logits, model(pixel_values=pixels(12, 12)).logits)


def test_no_square_before(make_model: Callable[..., Any]) -> None:
    """16 x 12 px are 4 x 3 patches: rows and columns are not mixed up."""
    model = make_model("vit")
    positions = model.vit.embeddings.position_embeddings
    with torch.no_grad():  # every row its own number
        positions[0, 1:] = torch.arange(4.0).repeat_interleave(3)[:, None]
    resized(model, 16)
    new = model.vit.embeddings.position_embeddings
    assert new.shape == (1, 17, 32)
    assert torch.allclose(new[0, 1:], torch.arange(4.0).repeat_interleave(4)[:, None].expand(-1, 32), atol=1e-5)
    assert torch.equal(new[0, 0], positions[0, 0])


@torch.no_grad()
def test_half_precision_stays(make_model: Callable[..., Any]) -> None:
    model = make_model("vit", image_size=32).to(torch.bfloat16)
    exact = make_model("vit", image_size=32).vit.embeddings.position_embeddings.to(torch.bfloat16).float()
    resized(model, 20)
    found = model.vit.embeddings.position_embeddings
    assert found.dtype == torch.bfloat16
    image = exact[:, 1:].reshape(1, 8, 8, 32).permute(0, 3, 1, 2)
    expected = torch.nn.functional.interpolate(image, size=(5, 5), mode="bicubic").permute(0, 2, 3, 1).flatten(1, 2)
    assert torch.equal(found[:, 1:], expected.to(torch.bfloat16))


@torch.no_grad()
def test_of_a_super_network(make_model: Callable[..., Any]) -> None:
    """Extracted and activated are the same network at the new size."""
    model = make_model("vit", image_size=24)
    resized(model, 16)
    network = SuperNetwork(model)
    assert network.shape.class_tokens == 1
    small = network.extract(network.architecture)
    assert torch.equal(small(pixel_values=pixels(16, 16)).logits, network(pixel_values=pixels(16, 16)).logits)
    assert network.family.positions(small.config) == 17


@pytest.mark.parametrize(
    ("patch", "size", "said"),
    [
        (14, 60, "image size: 60 px are no multiple of the model's patch of 14 px; 56 or 70 are"),
        (14, 10, "image size: 10 px are no multiple of the model's patch of 14 px; 14 is the smallest"),
        (4, 0, "image size: 0 px are no multiple of the model's patch of 4 px; 4 is the smallest"),
        ([4, 8], 12, "image size: 12 px are no multiple of the model's patch of 4 x 8 px; 8 or 16 are"),
    ],
)
def test_no_whole_patches(make_model: Callable[..., Any], patch: Any, size: int, said: str) -> None:
    model = make_model("vit", image_size=56, patch_size=patch)
    with pytest.raises(BadInput) as caught:
        resized(model, size)
    assert caught.value.message == said
