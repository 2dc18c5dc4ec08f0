"""A ViT for images of another size: its learned positions interpolated once, so that no graph has to do it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from instatune_deploy.image_size import check_image_size
from instatune_deploy.supernet.families import family_of


@torch.no_grad()
def resized(model: PreTrainedModel, image_size: int) -> None:
    """Change a ViT or DeiT in place to one that takes images of ``image_size`` x ``image_size`` pixels.

    Positions of patches are interpolated as transformers does it (bicubic, in float32), those of class and distillation token
    stay. The parameter, ``config.image_size`` and what the embedding modules say of their size change; at the model's own size
    nothing does. ``BadInput`` for a size that is no multiple of the patch.
    """
    family = family_of(model.config.model_type, "image size")
    embeddings: Any = model.base_model.get_submodule(family.embeddings)
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


def square(value: Any) -> int | None:
    """The edge of a square that a configuration says; None where it is none, or nothing is said."""
    sides = None if value is None else _pair(value)
    return sides[0] if sides is not None and sides[0] == sides[1] else None


def _pair(value: Any) -> tuple[int, int]:
    """Height and width, also of one number that stands for both."""
    height, width = value if isinstance(value, (list, tuple)) else (value, value)
    return int(height), int(width)
