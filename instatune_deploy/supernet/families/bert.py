"""BERT's layout: BERT, RoBERTa, XLM-RoBERTa, CamemBERT and ELECTRA keep their layers the same way."""

from typing import Any

from instatune_deploy.supernet.families.base import Family

AFTER_PADDING = ("roberta", "xlm-roberta", "camembert")
"""Their positions begin after the padding token's number."""


def positions(config: Any) -> int:
    """``max_position_embeddings``, less those that no token can have."""
    lost = (config.pad_token_id or 0) + 1 if config.model_type in AFTER_PADDING else 0
    return int(config.max_position_embeddings) - lost


FAMILY = Family(
    name="bert",
    model_types=("bert", "roberta", "xlm-roberta", "camembert", "electra"),
    task="text-classification",
    layers="encoder.layer",
    embeddings="embeddings",
    attention="attention.self",
    heads_out=("attention.self.query", "attention.self.key", "attention.self.value"),
    heads_in=("attention.output.dense",),
    mlp_out=("intermediate.dense",),
    mlp_in=("output.dense",),
    positions=positions,
    paper="paper-bert",
)
