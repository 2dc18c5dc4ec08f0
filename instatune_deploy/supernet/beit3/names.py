"""What the parts of a BEiT-3 are called in checkpoints of torchscale and of the official repository (microsoft/unilm, beit3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from instatune_deploy.supernet.beit3.heads import (
    Beit3ForImageClassification,
    Beit3ForVisualQuestionAnswering,
    Beit3ForVisualReasoning,
)
from instatune_deploy.supernet.beit3.model import Beit3Model

VISION_POSITIONS = "encoder.embed_positions.A.weight"
LANGUAGE_POSITIONS = "encoder.embed_positions.B.weight"
UNUSED_POSITIONS = 2
"""Rows before the first position, in both: the numbering is fairseq's."""
MASK_TOKEN = "vision_embed.mask_token"
"""Of pre-training; nothing of ours reads it."""

_BEGINNINGS = {
    "embeddings.vision.cls_token": "vision_embed.cls_token",
    "embeddings.vision.patch_embeddings.projection.": "vision_embed.proj.",
    "embeddings.vision.position_embeddings": VISION_POSITIONS,
    "embeddings.text.word_embeddings.": "text_embed.",
    "embeddings.text.position_embeddings.weight": LANGUAGE_POSITIONS,
    "layers.": "encoder.layers.",
    "norm.": "encoder.layer_norm.",
}
_IN_A_LAYER = {
    ".attention_norm.": ".self_attn_layer_norm.",
    ".attention.inner_norm.": ".self_attn.inner_attn_ln.",
    ".attention.o_proj.": ".self_attn.out_proj.",
    ".attention.": ".self_attn.",
    ".mlp_norm.": ".final_layer_norm.",
    ".inner_norm.": ".ffn_layernorm.",
    ".mlp.": ".ffn.",
}
"""Replaced one after the other."""


@dataclass(frozen=True)
class Head:
    """What stands above the layers. All names are those of checkpoints."""

    model: Any
    """Our class."""
    language: bool = True
    """Whether it reads texts."""
    mark: str | None = None
    """A tensor that this head alone has."""
    labels: str | None = None
    """The matrix with a row for each label."""
    parts: Mapping[str, str] = field(default_factory=dict)
    """Beginnings of our names, to those in checkpoints."""

    @property
    def base_prefix(self) -> str:
        """What begins our names of all that is no head."""
        return f"{self.model.base_model_prefix}." if self.parts else ""


HEADS = {
    "none": Head(Beit3Model),
    "image-classification": Head(
        Beit3ForImageClassification,
        language=False,
        mark="fc_norm.weight",
        labels="head.weight",
        parts={"norm.": "fc_norm.", "classifier.": "head."},
    ),
    "vqa": Head(
        Beit3ForVisualQuestionAnswering,
        mark="pooler.dense.weight",
        labels="head.3.weight",
        parts={"pooler.": "pooler.", "classifier.": "head."},
    ),
    "nlvr2": Head(
        Beit3ForVisualReasoning,
        mark="head.norm1.weight",
        labels="head.dense2.weight",
        parts={
            "classifier.0.": "head.norm1.",
            "classifier.1.": "head.dense1.",
            "classifier.2.": "head.norm2.",
            "classifier.4.": "head.dense2.",
        },
    ),
}
"""By task."""


def name_in_checkpoint(name: str, head: Head, prefix: str) -> str:
    """What a tensor of our state dict is called there. prefix: of all that is no head"""
    if not name.startswith(head.base_prefix):
        return _begun(name, head.parts)
    name = name.removeprefix(head.base_prefix)
    if name.startswith("layers."):
        for ours, theirs in _IN_A_LAYER.items():
            name = name.replace(ours, theirs)
    return prefix + _begun(name, _BEGINNINGS)


def _begun(name: str, beginnings: Mapping[str, str]) -> str:
    ours = next(ours for ours in beginnings if name.startswith(ours))
    return beginnings[ours] + name.removeprefix(ours)
