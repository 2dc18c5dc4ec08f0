"""ViT's layout: ViT and DeiT keep their layers the same way. Attention and its output matrix are one module."""

from typing import Any

from instatune_deploy.supernet.families.base import Family

DISTILLED = ("deit",)
"""They have a distillation token beside the class token."""


def class_tokens(config: Any) -> int:
    """The class token; DeiT has the distillation token too."""
    return 2 if config.model_type in DISTILLED else 1


def positions(config: Any) -> int:
    """Patches of an image of the configuration's size, and what is no patch."""
    sizes = config.image_size if isinstance(config.image_size, (list, tuple)) else (config.image_size,) * 2
    patch = config.patch_size if isinstance(config.patch_size, (list, tuple)) else (config.patch_size,) * 2
    patches = (int(sizes[0]) // int(patch[0])) * (int(sizes[1]) // int(patch[1]))
    return patches + class_tokens(config)


FAMILY = Family(
    name="vit",
    model_types=("vit", "deit"),
    task="image-classification",
    layers="layers",
    embeddings="embeddings",
    attention="attention",
    heads_out=("attention.q_proj", "attention.k_proj", "attention.v_proj"),
    heads_in=("attention.o_proj",),
    mlp_out=("mlp.fc1",),
    mlp_in=("mlp.fc2",),
    positions=positions,
    paper="paper-vit",
    patches="embeddings.patch_embeddings.projection",
    class_tokens=class_tokens,
)
