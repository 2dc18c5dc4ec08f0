"""DINOv2 checkpoints as plain ViT ones: LayerScale folds exactly into the matrices before it.

LayerScale multiplies what an attention, and an MLP, gives by a learned vector gamma before it is added to the rest. So does its
last matrix when its rows and biases are multiplied by gamma: W' = gamma[:, None] W, b' = gamma b.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import Dinov2Model, ViTConfig, ViTModel

from instatune_deploy.errors import BadInput
from instatune_deploy.files import whole_folder
from instatune_deploy.supernet.load import from_folder, load_config, quiet_transformers

LAYERS = "encoder.layer."
SCALED = {"attention.o_proj": "layer_scale1.lambda1", "mlp.fc2": "layer_scale2.lambda1"}
"""By matrix of a layer, the gamma that multiplies what it gives."""
RENAMED = {"norm1": "layernorm_before", "norm2": "layernorm_after"}
TAKEN_ALONG = ("preprocessor_config.json", "README.md")
"""Image processor, and the card with the licence."""


def fold(folder: Path, target: Path) -> None:
    """Write the DINOv2 checkpoint of ``folder`` to ``target`` as a `ViTModel` that computes the same features.

    A trained classifier is left behind: DINOv2's reads the class token and the mean of the patches, ViT's the class token alone.
    Image processor and card are copied, the mask token is not. ``BadInput`` for what is no DINOv2, has register tokens or a
    SwiGLU MLP, or cannot be loaded.
    """
    config = load_config(folder)
    _check_foldable(config, folder)
    state = _backbone_state(folder, config)
    with whole_folder(target) as scratch, quiet_transformers():
        folded_model(state, config).save_pretrained(scratch)
        for name in TAKEN_ALONG:
            if (folder / name).is_file():
                shutil.copyfile(folder / name, scratch / name)


def folded_model(state: Mapping[str, torch.Tensor], config: Any) -> ViTModel:
    """The ViT of a `Dinov2Model`'s state and configuration, float32, in evaluation mode, without pooler."""
    with torch.random.fork_rng(devices=[]):  # every random weight is replaced
        model = ViTModel(folded_config(config), add_pooling_layer=False)
    model.load_state_dict(folded_state(state))
    return model.eval()


def folded_state(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A `ViTModel`'s state, without pooler, from that of a `Dinov2Model`, by transformers 5's names. Tensors may be shared."""
    folded: dict[str, torch.Tensor] = {}
    for name, value in state.items():
        number, _, path = name.removeprefix(LAYERS).partition(".")
        if not name.startswith(LAYERS):
            if name != "embeddings.mask_token":
                folded[name] = value
            continue
        part, _, kind = path.rpartition(".")
        if part in SCALED:
            gamma = state[f"{LAYERS}{number}.{SCALED[part]}"]
            value = gamma[:, None] * value if kind == "weight" else gamma * value
        if path not in SCALED.values():
            folded[f"layers.{number}.{RENAMED.get(part, part)}.{kind}"] = value
    return folded


def folded_config(config: Any) -> ViTConfig:
    """ViT's configuration of the sizes of a DINOv2's."""
    same = (
        *("hidden_size", "num_hidden_layers", "num_attention_heads", "hidden_act", "hidden_dropout_prob"),
        *("attention_probs_dropout_prob", "initializer_range", "layer_norm_eps", "image_size", "patch_size", "num_channels"),
        "qkv_bias",
    )
    width = int(config.hidden_size * config.mlp_ratio)
    return ViTConfig(intermediate_size=width, **{name: getattr(config, name) for name in same})


def _check_foldable(config: Any, folder: Path) -> None:
    if config.model_type == "dinov2_with_registers":
        raise BadInput(f"{folder}: model type 'dinov2_with_registers' has register tokens, for which a ViT has no place")
    if config.model_type != "dinov2":
        raise BadInput(f"{folder}: model type '{config.model_type}' is not 'dinov2', whose LayerScale can be folded")
    if config.use_swiglu_ffn:
        raise BadInput(f"{folder}: its MLPs are SwiGLU (use_swiglu_ffn), which a ViT does not have")


def _backbone_state(folder: Path, config: Any) -> dict[str, torch.Tensor]:
    """State of the checkpoint's `Dinov2Model`."""
    model, found = from_folder(Dinov2Model, folder, config)
    new = {*found["missing_keys"], *(name for name, *_ in found["mismatched_keys"])} - {"embeddings.mask_token"}
    if new:
        raise BadInput(f"{folder}: the weights are not those of config.json: '{min(new)}' is missing or of another size")
    state: dict[str, torch.Tensor] = model.state_dict()
    return state
