"""What a pipeline starts from: its settings, the pre-trained model, the data. Checked before anything long begins."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from instatune_deploy.config import PipelineSettings
from instatune_deploy.digests import folder_sha256
from instatune_deploy.errors import BadInput
from instatune_deploy.resources import find_resource
from instatune_deploy.tasks.references import check_model_folder, resolve
from instatune_deploy.tasks.text_classification import TextData, load_rows
from instatune_deploy.tasks.text_inputs import load_tokenizer, tokenize
from instatune_deploy.yamlfile import load_yaml


@dataclass(frozen=True)
class PipelineInputs:
    """Resolved references of a pipeline file."""

    settings: PipelineSettings
    model_folder: Path
    data: TextData

    @cached_property
    def model_sha256(self) -> str:
        """Of every file of the checkpoint."""
        return folder_sha256(self.model_folder)

    @cached_property
    def tokenizer(self) -> Any:
        """The checkpoint's own."""
        return load_tokenizer(self.model_folder)

    def tokens(self, split: str, length: int) -> tuple[dict[str, list[list[int]]], np.ndarray]:
        """Rows of a split as `tasks.text_inputs.tokenize` gives them, cut to ``length`` tokens, and their labels."""
        return tokenize(self.data.texts[split], self.tokenizer, length), self.data.labels[split]  # type: ignore[index]


def load_pipeline(name: str) -> PipelineSettings:
    """The settings of a pipeline file, or of a shipped one by its name."""
    return load_yaml(find_resource("pipelines", name, "pipeline"), PipelineSettings)


def load_inputs(settings: PipelineSettings) -> PipelineInputs:
    """Fetch and check model and data. ``BadInput`` says what is wrong with which."""
    from instatune_deploy.supernet.families import family_of
    from instatune_deploy.supernet.load import load_config

    model = settings.model
    folder = resolve(model.reference, sha256=model.sha256, revision=model.revision, kind="model", where="model.reference")
    check_model_folder(folder)
    config = load_config(folder)
    usable = family_of(config.model_type, str(folder)).positions(config)
    if settings.data.max_length > usable:
        raise BadInput(f"data.max_length: {settings.data.max_length} tokens are more than the model has positions ({usable})")
    inputs = PipelineInputs(settings, folder, load_rows(settings.data))
    # what is wrong with the tokenizer is found before the training, not in it
    if len(inputs.tokenizer) > config.vocab_size:
        raise BadInput(f"{folder}: the tokenizer knows {len(inputs.tokenizer)} tokens, the model only {config.vocab_size}")
    rows, step = len(inputs.data.texts["train"]), settings.finetune.batch_size * settings.finetune.gradient_accumulation_steps
    if rows < step:
        raise BadInput(
            f"{rows} training rows are fewer than one batch; set finetune.batch_size times "
            f"finetune.gradient_accumulation_steps below {step} or give more data"
        )
    return inputs
