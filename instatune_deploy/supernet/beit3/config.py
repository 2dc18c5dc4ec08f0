"""The configuration of a BEiT-3: its sizes."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedConfig


class Beit3Config(PreTrainedConfig):
    """Sizes of a BEiT-3; the defaults are those of BEiT-3 base. ``ValueError`` for heads that do not divide the hidden size.

    image_size, patch_size:  pixels of an edge
    max_position_embeddings: the longest text, in tokens
    pad_token_id:            of the tokenizer that BEiT-3 was trained with; the model itself goes by the attention mask
    """

    model_type = "beit3"

    def __init__(
        self,
        hidden_size: int = 768,
        num_hidden_layers: int = 12,
        num_attention_heads: int = 12,
        intermediate_size: int = 3072,
        hidden_act: str = "gelu",
        hidden_dropout_prob: float = 0.0,
        attention_probs_dropout_prob: float = 0.0,
        initializer_range: float = 0.02,
        layer_norm_eps: float = 1e-5,
        image_size: int = 224,
        patch_size: int = 16,
        num_channels: int = 3,
        vocab_size: int = 64010,
        max_position_embeddings: int = 1022,
        pad_token_id: int | None = 1,
        **kwargs: Any,
    ) -> None:
        if hidden_size % num_attention_heads:
            raise ValueError(
                f"The hidden size ({hidden_size}) is not a multiple of the number of attention heads ({num_attention_heads})"
            )
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.intermediate_size = intermediate_size
        self.hidden_act = hidden_act
        self.hidden_dropout_prob = hidden_dropout_prob
        self.attention_probs_dropout_prob = attention_probs_dropout_prob
        self.initializer_range = initializer_range
        self.layer_norm_eps = layer_norm_eps
        self.image_size = image_size
        self.patch_size = patch_size
        self.num_channels = num_channels
        self.vocab_size = vocab_size
        self.max_position_embeddings = max_position_embeddings
        self.pad_token_id = pad_token_id
        super().__init__(**kwargs)
