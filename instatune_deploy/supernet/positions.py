"""A ViT for images of another size: its learned positions interpolated once, so that no graph has to do it."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from instatune_deploy.errors import BadInput
from instatune_deploy.supernet.families import family_of


@torch.no_grad()
def resized(model: PreTrainedModel, image_size: int) -> None:
    """Change a ViT or DeiT in place to one that takes images of ``image_size`` x ``image_size`` pixels.

    Positions of patches are interpolated as transformers does it (bicubic, in float32), those of class and distillation token
    stay. The parameter, ``config.image_size`` and what the embedding modules say of their size change; at the model's own size
    nothing does. ``BadInput`` for a size that is no multiple of the patch.
    """
    family = family_of(model.config.model_type, "image size")
    embeddings: Any = getattr(model, model.base_model_prefix).get_submodule(family.embeddings)
    patches = embeddings.patch_embeddings
    patch = _pair(patches.patch_size)
    check_image_size(image_size, patch)
    before, after = _pair(patches.image_size), (image_size, image_size)
    if before == after:
        return
    grid = (before[0] // patch[0], before[1] // patch[1])
    wanted = (image_size // patch[0], image_size // patch[1])
    positions = embeddings.position_embeddings
    new = interpolated(positions, family.class_tokens(model.config), grid, wanted)
    embeddings.position_embeddings = nn.Parameter(new, requires_grad=positions.requires_grad)
    patches.num_patches = wanted[0] * wanted[1]
    patches.image_size = embeddings.image_size = after
    model.config.image_size = image_size


def interpolated(positions: torch.Tensor, class_tokens: int, grid: tuple[int, int], wanted: tuple[int, int]) -> torch.Tensor:
    """Positions (1, class_tokens + rows * columns, hidden) of a ``grid`` of patches as those of another, of the same type."""
    first, others = positions[:, :class_tokens], positions[:, class_tokens:]
    image = others.reshape(1, *grid, -1).permute(0, 3, 1, 2).float()
    image = nn.functional.interpolate(image, size=wanted, mode="bicubic", align_corners=False)
    return torch.cat([first, image.permute(0, 2, 3, 1).flatten(1, 2).to(positions.dtype)], dim=1)


def check_image_size(image_size: int, patch: tuple[int, int]) -> None:
    """``BadInput`` unless an edge of ``image_size`` pixels is made of whole patches; the message names sizes near it that are."""
    step = math.lcm(*patch)
    if image_size < 1 or image_size % step:
        below = image_size // step * step
        near = f"{below} or {below + step} are" if below > 0 else f"{step} is the smallest"
        named = f"{patch[0]}" if patch[0] == patch[1] else f"{patch[0]} x {patch[1]}"
        raise BadInput(f"image size: {image_size} px are no multiple of the model's patch of {named} px; {near}")


def _pair(value: Any) -> tuple[int, int]:
    """Height and width, also of one number that stands for both."""
    height, width = value if isinstance(value, (list, tuple)) else (value, value)
    return int(height), int(width)
