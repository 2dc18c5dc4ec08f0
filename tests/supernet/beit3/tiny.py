"""Tiny random BEiT-3 models, inputs for them, and checkpoints with the official names."""

from __future__ import annotations

from typing import Any

import torch

from instatune_deploy.supernet.beit3.config import Beit3Config
from instatune_deploy.supernet.beit3.model import Beit3Model
from instatune_deploy.supernet.beit3.names import HEADS, name_in_checkpoint

IMAGE, PATCHES, VOCABULARY, MOST_TOKENS, LABELS = 8, 4, 50, 10, 3


def make_config(**changes: Any) -> Beit3Config:
    """Two layers, hidden 16, 4 heads, MLP 24, 2 x 2 patches of 4 px, 50 words, texts of up to 10 tokens, three labels."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24, "image_size": IMAGE}
    sizes |= {"patch_size": 4, "vocab_size": VOCABULARY, "max_position_embeddings": MOST_TOKENS, "num_labels": LABELS}
    return Beit3Config(**{**sizes, **changes})


def make_model(kind: Any = Beit3Model, seed: int = 0, **changes: Any) -> Any:
    """Float32, evaluation mode; every parameter is random and large, those of norms too."""
    model = kind(make_config(**changes))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.2 * noise if "norm" in name and name.endswith(".weight") else 0.3 * noise)
    return model.eval()


def images(*shape: int, seed: int = 1) -> torch.Tensor:
    """(*shape, 3, 8, 8)"""
    return torch.randn((*shape, 3, IMAGE, IMAGE), generator=torch.Generator().manual_seed(seed))


def texts(rows: int, tokens: int, seed: int = 2) -> torch.Tensor:
    """(rows, tokens)"""
    return torch.randint(0, VOCABULARY, (rows, tokens), generator=torch.Generator().manual_seed(seed))


def official(head: str, prefix: str = "beit3.", **changes: Any) -> dict[str, torch.Tensor]:
    """The state dict that the official code would have for `make_model` of that head."""
    kind = HEADS[head]
    state = {}
    for name, value in make_model(kind.model, **changes).state_dict().items():
        if "position_embeddings" in name:
            value = value.reshape(value.shape[-2:])
            value = torch.cat([torch.full((2, value.shape[1]), 9.0), value])
        state[name_in_checkpoint(name, kind, prefix)] = value
    state[f"{prefix}vision_embed.mask_token"] = torch.zeros(1, 1, 16)
    return state
