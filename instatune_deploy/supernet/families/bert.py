"""BERT's layout: BERT, RoBERTa, XLM-RoBERTa, CamemBERT and ELECTRA keep their layers the same way."""

from instatune_deploy.supernet.families.base import Family

FAMILY = Family(
    name="bert",
    model_types=("bert", "roberta", "xlm-roberta", "camembert", "electra"),
    task="text-classification",
    layers="encoder.layer",
    heads_out=("attention.self.query", "attention.self.key", "attention.self.value"),
    heads_in=("attention.output.dense",),
    mlp_out=("intermediate.dense",),
    mlp_in=("output.dense",),
)
