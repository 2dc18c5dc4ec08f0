from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, Dinov2Config, Dinov2ForImageClassification, Dinov2Model

from instatune_deploy.errors import BadInput
from instatune_deploy.supernet.layer_scale import fold
from instatune_deploy.supernet.load import load_pretrained
from instatune_deploy.supernet.positions import resized

OLD_NAMES = {"attention.q_proj": "attention.attention.query", "attention.k_proj": "attention.attention.key"}
OLD_NAMES |= {"attention.v_proj": "attention.attention.value", "attention.o_proj": "attention.output.dense"}


def make_dinov2(kind: Any = Dinov2Model, **changes: Any) -> Any:
    """Two layers, hidden 32, 4 heads, 3 x 3 patches of 14 px; every parameter random, the gammas too."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "mlp_ratio": 3, "image_size": 42}
    model = kind(Dinov2Config(**{**sizes, "layer_norm_eps": 1e-3, **changes}))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.2 * noise if "norm" in name and name.endswith(".weight") else 0.25 * noise)
    return model.eval()


def saved(model: Any, folder: Path, rename: Any = None) -> Path:
    """The model's checkpoint; ``rename``: of its tensors."""
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text('{"image_processor_type": "BitImageProcessor"}')
    if rename is not None:
        tensors = {rename(name): value.clone() for name, value in model.state_dict().items()}
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def pixels(size: int) -> torch.Tensor:
    return torch.randn((2, 3, size, size), generator=torch.Generator().manual_seed(1))


def old(name: str) -> str:
    for new, before in OLD_NAMES.items():
        name = name.replace(new, before)
    return name


@pytest.mark.parametrize("size", [42, 28, 56])
@pytest.mark.parametrize("changes", [{}, {"qkv_bias": False, "use_mask_token": False}])
@torch.no_grad()
def test_the_same_features(tmp_path: Path, size: int, changes: dict[str, Any]) -> None:
    model = make_dinov2(**changes)
    fold(saved(model, tmp_path / "a"), tmp_path / "b")
    folded = load_pretrained(tmp_path / "b", ["x", "y"], seed=0)
    resized(folded, size)
    expected = model(pixels(size)).last_hidden_state
    assert torch.allclose(folded.vit(pixels(size)).last_hidden_state, expected, atol=1e-5)
    assert expected.abs().mean() > 0.1
    assert folded.config.layer_norm_eps == 1e-3
    assert folded.config.intermediate_size == 96


@pytest.mark.parametrize("rename", [str, old, lambda name: f"dinov2.{name}", lambda name: f"dinov2.{old(name)}"])
@torch.no_grad()
def test_names_of_all_times(tmp_path: Path, rename: Any) -> None:
    model = make_dinov2()
    fold(saved(model, tmp_path / "a", rename), tmp_path / "b")
    folded = load_pretrained(tmp_path / "b", ["x", "y"], seed=0)
    assert torch.allclose(folded.vit(pixels(42)).last_hidden_state, model(pixels(42)).last_hidden_state, atol=1e-5)


@torch.no_grad()
def test_a_trained_classifier_is_left_behind(tmp_path: Path) -> None:
    model = make_dinov2(Dinov2ForImageClassification, id2label={0: "cat", 1: "dog", 2: "emu"})
    folder = saved(model, tmp_path / "a")
    fold(folder, tmp_path / "b")
    folded = AutoModel.from_pretrained(tmp_path / "b", add_pooling_layer=False).eval()
    assert torch.allclose(folded(pixels(42)).last_hidden_state, model.dinov2(pixels(42)).last_hidden_state, atol=1e-5)
    # the file says what it is: a backbone, and nothing random in it
    assert json.loads((tmp_path / "b" / "config.json").read_text())["architectures"] == ["ViTModel"]
    assert {name.split(".")[0] for name in load_file(tmp_path / "b" / "model.safetensors")} == {
        "embeddings",
        "encoder",
        "layernorm",
    }
    assert (tmp_path / "b" / "preprocessor_config.json").read_text() == (folder / "preprocessor_config.json").read_text()


def change(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"use_swiglu_ffn": True}, "its MLPs are SwiGLU"),
        ({"model_type": "dinov2_with_registers"}, "has register tokens"),
        ({"model_type": "vit"}, "model type 'vit' is not 'dinov2'"),
        (
            {"num_hidden_layers": 3},
            r"the weights are not those of config.json: 'encoder.layer.2.attention.k_proj.bias' is missing",
        ),
        ({"image_size": 56}, r"'embeddings.position_embeddings' is missing or of another size"),
    ],
)
def test_what_cannot_be_folded(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    folder = saved(make_dinov2(), tmp_path / "a")
    change(folder, **changes)
    with pytest.raises(BadInput, match=said) as caught:
        fold(folder, tmp_path / "b")
    assert "\n" not in caught.value.message
    assert not (tmp_path / "b").exists()


def test_broken_weights(tmp_path: Path) -> None:
    folder = saved(make_dinov2(), tmp_path / "a")
    (folder / "model.safetensors").write_bytes(b"no")
    with pytest.raises(BadInput, match="the model cannot be loaded"):
        fold(folder, tmp_path / "b")
