"""Attention over the tokens of both ways at once; what makes queries, keys and values of them belongs to each way."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from instatune_deploy.supernet.beit3.config import Beit3Config
from instatune_deploy.supernet.beit3.multiway import Multiway, Streams, joined, lengths_of, parted


class Beit3Attention(nn.Module):
    """Multi-head attention with a LayerNorm before the output matrix (sub-LayerNorm, arXiv 2210.06423).

    A head is a block of ``head_size`` rows of ``q_proj``, ``k_proj`` and ``v_proj``, elements of ``inner_norm`` and columns of
    ``o_proj``: the same block in both ways.
    """

    def __init__(self, config: Beit3Config, ways: tuple[str, ...]) -> None:
        super().__init__()
        size = config.hidden_size
        self.config = config
        self.head_size = size // config.num_attention_heads
        self.scaling = self.head_size**-0.5
        self.is_causal = False
        self.q_proj, self.k_proj, self.v_proj = (Multiway(lambda: nn.Linear(size, size), ways) for _ in range(3))
        self.inner_norm = Multiway(lambda: nn.LayerNorm(size, eps=config.layer_norm_eps), ways)
        self.o_proj = Multiway(lambda: nn.Linear(size, size), ways)
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)

    def forward(self, streams: Streams, attention_mask: torch.Tensor | None = None) -> tuple[Streams, torch.Tensor | None]:
        """Streams of the same shapes, and the attention weights where the implementation gives them.

        attention_mask: as transformers makes it for the implementation, of all tokens together
        """
        query, key, value = (self._heads(projection(streams)) for projection in (self.q_proj, self.k_proj, self.v_proj))
        attend = ALL_ATTENTION_FUNCTIONS.get(self.config._attn_implementation or "eager", eager_attention)
        dropout = self.dropout.p if self.training else 0.0
        attended, weights = attend(self, query, key, value, attention_mask, dropout=dropout, scaling=self.scaling)
        hidden = parted(attended.flatten(2), lengths_of(streams))
        return self.o_proj(self.inner_norm(hidden)), weights

    def _heads(self, streams: Streams) -> torch.Tensor:
        """(batch, heads, tokens, head_size)"""
        hidden = joined(streams)
        return hidden.view(*hidden.shape[:2], -1, self.head_size).transpose(1, 2)


def eager_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The plain formula. query, key, value: (batch, heads, tokens, head_size); attention_mask: added to the scores

    Returns what is attended to, (batch, tokens, heads, head_size), and the weights, (batch, heads, tokens, tokens).
    """
    scores = torch.matmul(query, key.transpose(2, 3)) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = nn.functional.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    weights = nn.functional.dropout(weights, p=dropout, training=module.training)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), weights
