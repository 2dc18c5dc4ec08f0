"""Models that transformers lacks: once they are registered, its Auto classes know them like any other, without remote code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers import AutoConfig, AutoModel, AutoModelForImageClassification, AutoModelForVisualQuestionAnswering

from instatune_deploy.supernet.beit3.config import Beit3Config
from instatune_deploy.supernet.beit3.heads import Beit3ForImageClassification, Beit3ForVisualQuestionAnswering
from instatune_deploy.supernet.beit3.model import Beit3Model


@dataclass(frozen=True)
class OwnModel:
    """A configuration, and by Auto class the model that it makes of it."""

    config: Any
    classes: Mapping[Any, Any]


OWN_MODELS = (
    OwnModel(
        Beit3Config,
        {
            AutoModel: Beit3Model,
            AutoModelForImageClassification: Beit3ForImageClassification,
            AutoModelForVisualQuestionAnswering: Beit3ForVisualQuestionAnswering,
        },
    ),
)


def register_own_models() -> None:
    """Make transformers know them; doing so again changes nothing. They come first, should transformers have such a type one day:
    our checkpoints have our names in them."""
    for model in OWN_MODELS:
        AutoConfig.register(model.config.model_type, model.config, exist_ok=True)
        for auto, kind in model.classes.items():
            auto.register(model.config, kind, exist_ok=True)
