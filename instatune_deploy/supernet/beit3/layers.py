"""A layer of BEiT-3: attention over all tokens, and an MLP for each way (its feed-forward experts)."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer

from instatune_deploy.supernet.beit3.attention import Beit3Attention
from instatune_deploy.supernet.beit3.config import Beit3Config
from instatune_deploy.supernet.beit3.multiway import Multiway, Streams, joined, parted


class Beit3MLP(nn.Module):
    """The MLP of one way, with a LayerNorm before its second matrix."""

    def __init__(self, config: Beit3Config) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.activation = ACT2FN[config.hidden_act]
        self.inner_norm = nn.LayerNorm(config.intermediate_size, eps=config.layer_norm_eps)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """hidden: (batch, tokens, hidden_size), of the same shape afterwards."""
        return cast(torch.Tensor, self.fc2(self.inner_norm(self.activation(self.fc1(hidden)))))


class Beit3Layer(GradientCheckpointingLayer):
    """Attention and MLPs, a LayerNorm before each, what they give added to what they took."""

    def __init__(self, config: Beit3Config, ways: tuple[str, ...]) -> None:
        super().__init__()

        def norm() -> nn.Module:
            return nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

        self.attention_norm = Multiway(norm, ways)
        self.attention = Beit3Attention(config, ways)
        self.mlp_norm = Multiway(norm, ways)
        self.mlp = Multiway(lambda: Beit3MLP(config), ways)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, hidden: torch.Tensor, attention_mask: torch.Tensor | None, lengths: dict[str, int]) -> torch.Tensor:
        """hidden: (batch, tokens, hidden_size), of the same shape afterwards. lengths: tokens of each way

        The ways part once and join once, however much happens between.
        """
        streams = parted(hidden, lengths)
        streams = self._added(streams, self.attention(self.attention_norm(streams), attention_mask)[0])
        return joined(self._added(streams, self.mlp(self.mlp_norm(streams))))

    def _added(self, streams: Streams, change: Streams) -> Streams:
        return {way: hidden + self.dropout(change[way]) for way, hidden in streams.items()}
