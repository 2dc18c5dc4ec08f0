"""A network of ViT-B/16's size, to measure what networks of that size take.

Latency does not depend on what the weights say, so they are random and nothing is fetched.
"""

from __future__ import annotations

from pathlib import Path

from instatune_deploy.files import whole_folder


def clip_vit_b16(output: Path) -> None:
    """Write a `ViTForImageClassification` with random weights to ``output``: 12 layers, hidden 768, 12 heads, MLP 3072, patch 16.

    That is ViT-B/16 and CLIP's image tower in size: 197 tokens at 224 px, 86 M parameters (346 MB).
    """
    import torch
    from transformers import ViTConfig, ViTForImageClassification

    from instatune_deploy.supernet.load import quiet_transformers

    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = ViTForImageClassification(ViTConfig())
    with whole_folder(output) as scratch, quiet_transformers():
        model.save_pretrained(scratch)
