"""From images and texts to tokens."""

from __future__ import annotations

import torch
from torch import nn
from transformers.models.vit.modeling_vit import ViTEmbeddings

from instatune_deploy.supernet.beit3.config import Beit3Config
from instatune_deploy.supernet.beit3.multiway import LANGUAGE, VISION, Streams, joined


class Beit3TextEmbeddings(nn.Module):
    """Words and their positions."""

    def __init__(self, config: Beit3Config) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """input_ids, attention_mask: (batch, tokens) -> (batch, tokens, hidden_size), zero where the mask is.

        ``ValueError`` for more tokens than there are positions.
        """
        tokens, most = input_ids.shape[1], self.position_embeddings.num_embeddings
        if tokens > most:
            raise ValueError(f"{tokens} tokens of text are more than the model has positions ({most})")
        hidden = self.dropout(self.word_embeddings(input_ids) + self.position_embeddings.weight[:tokens])
        return hidden if attention_mask is None else hidden * attention_mask[..., None].to(hidden.dtype)


class Beit3Embeddings(nn.Module):
    """``vision`` is a ViT's: patches, a class token before them, learned positions. ``text`` is there with the language way."""

    def __init__(self, config: Beit3Config, ways: tuple[str, ...]) -> None:
        super().__init__()
        self.vision = ViTEmbeddings(config)  # type: ignore[arg-type]  # reads sizes that both configurations have
        self.text = Beit3TextEmbeddings(config) if LANGUAGE in ways else None

    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(batch, tokens, hidden_size): the class token, the patches, the text, of what there is.

        pixel_values: (batch, channels, height, width); input_ids, attention_mask: (batch, tokens of text)
        ``ValueError`` for neither image nor text, and for a text without a language way.
        """
        streams: Streams = {}
        if pixel_values is not None:
            streams[VISION] = self.vision(pixel_values)
        if input_ids is not None:
            if self.text is None:
                raise ValueError("this BEiT-3 is for images alone: it has no input_ids")
            streams[LANGUAGE] = self.text(input_ids, attention_mask)
        if not streams:
            raise ValueError("a BEiT-3 needs pixel_values, input_ids or both")
        return joined(streams)
