"""A network of ViT-B/16's size, to measure what networks of that size take.

Latency does not depend on what the weights say, so they are random and nothing is fetched.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from instatune_deploy.files import whole_folder

TINY: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "image_size": 32,
}


def clip_vit_b16(output: Path, tiny: bool = False) -> None:
    """Write a `ViTForImageClassification` with random weights to ``output``: 12 layers, hidden 768, 12 heads, MLP 3072, patch 16.

    That is ViT-B/16 and CLIP's image tower in size: 197 tokens at 224 px, 86 M parameters (346 MB). tiny: a network of the same
    form instead that takes no time, at 32 px
    """
    import torch
    from transformers import ViTConfig, ViTForImageClassification

    from instatune_deploy.supernet.load import quiet_transformers

    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = ViTForImageClassification(ViTConfig(**(TINY if tiny else {})))
    with whole_folder(output) as scratch, quiet_transformers():
        model.save_pretrained(scratch)
