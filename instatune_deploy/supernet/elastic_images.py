"""Elastic image sizes: the embeddings of a ViT that take images of any size made of whole patches."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from instatune_deploy.supernet.elastic import elastic_class


class ElasticEmbeddings(nn.Module):
    """Embeddings of a Hugging Face ViT that make tokens of smaller images than the model's own, while ``image_size_now`` says so.

    Positions are interpolated then as transformers does it, so that `positions.resized` gives a model that computes the same;
    gradients reach the positions of the full size. Images that come in another size are brought to it first, antialiased: a
    training samples sizes without preparing its images anew for each.

    `of` makes a module of any class into one by giving it a class of both, as `elastic.ElasticAttention.of` does.
    """

    image_size_now: int | None = None
    """Pixels of an image's edge; None is the full model's."""
    plain: type[nn.Module]
    """The class it was before."""

    @staticmethod
    def of(module: nn.Module) -> ElasticEmbeddings:
        """Change ``module`` itself, unless it is elastic already."""
        if not isinstance(module, ElasticEmbeddings):
            module.__class__ = elastic_class(ElasticEmbeddings, type(module))  # type: ignore[arg-type,assignment]
        assert isinstance(module, ElasticEmbeddings)
        return module

    def forward(self, pixel_values: torch.Tensor, *rest: Any, **named: Any) -> Any:
        """pixel_values: (batch, channels, height, width) -> (batch, tokens, hidden_size)."""
        edge = self.image_size_now
        if edge is not None:
            named["interpolate_pos_encoding"] = True
            pixel_values = shrunk(pixel_values, edge)
        return self.plain.forward(self, pixel_values, *rest, **named)

    def extract(self) -> nn.Module:
        """An ordinary module of the full size: itself, which is no longer elastic."""
        self.__dict__.pop("image_size_now", None)
        self.__class__ = self.plain  # type: ignore[assignment]
        return self


def shrunk(pixel_values: torch.Tensor, edge: int) -> torch.Tensor:
    """Images as (batch, channels, edge, edge), of the same type; those that are so stay as they are."""
    if pixel_values.shape[-2:] == (edge, edge):
        return pixel_values
    small = functional.interpolate(pixel_values.float(), size=(edge, edge), mode="bicubic", antialias=True, align_corners=False)
    return small.to(pixel_values.dtype)
