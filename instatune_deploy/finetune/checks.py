"""What is wrong with the model, settings and rows of a training, said before it begins or as soon as it is seen."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sized
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, TrainingArguments

from instatune_deploy.config import FinetuneSettings
from instatune_deploy.errors import BadInput

IGNORED = -100
"""Labels that no loss counts."""
_LABEL_NAMES = ("labels", "label")


def classes_of(model: PreTrainedModel) -> int | None:
    """How many classes a label can be; None for a model whose labels are no class numbers."""
    labels: int = getattr(model.config, "num_labels", 0)
    # of several choices the label says which; how many there are, only the rows know
    chooses = type(model).__name__.endswith("ForMultipleChoice")
    return None if labels < 2 or chooses or model.get_output_embeddings() is not None else labels


def check_recipe(model: PreTrainedModel, args: TrainingArguments, settings: FinetuneSettings) -> None:
    """``BadInput`` for what a super-network cannot be trained with."""
    # transformers is renaming it, and warns of the old name
    switched_on = "is_activation_checkpointing" if hasattr(model, "is_activation_checkpointing") else "is_gradient_checkpointing"
    if args.gradient_checkpointing or getattr(model, switched_on):
        raise BadInput("gradient checkpointing would recompute another sub-network than the one that ran: switch it off")
    if args.torch_compile:
        raise BadInput("torch_compile would compile every sub-network anew: switch it off")
    for how, environment in (("fsdp", "ACCELERATE_USE_FSDP"), ("deepspeed", "ACCELERATE_USE_DEEPSPEED")):
        if getattr(args, how) or os.environ.get(environment, "").lower() in ("true", "1"):
            raise BadInput(f"{how} splits the weights that sub-networks are views of: start several processes without it")
    if getattr(model.config, "num_labels", 2) < 2 and model.get_output_embeddings() is None:
        raise BadInput("the model has one label (a regression): distillation needs at least two classes")
    if getattr(model.config, "problem_type", None) == "multi_label_classification":
        raise BadInput("the model has several labels a row: distillation compares classes of which one is right")
    if args.max_steps <= 0 and settings.full_epochs >= args.num_train_epochs:
        raise BadInput(
            f"full_epochs ({settings.full_epochs:g}) must be less than the training's {args.num_train_epochs:g} epochs, "
            "or no sub-network is trained"
        )


def check_dataset(dataset: Any, batch_rows: int, classes: int | None) -> None:
    """``BadInput`` for fewer rows than one step takes, or a label that is no class of the model.

    Labels are looked at where that costs nothing: in a list of rows, or a column of a data set.
    """
    if not isinstance(dataset, Sized):
        return
    if len(dataset) < batch_rows:
        raise BadInput(
            f"{len(dataset)} training rows are fewer than one batch ({batch_rows}); give more data or lower the batch size"
        )
    labels = _labels(dataset)
    if classes is not None and labels is not None:
        check_labels(labels, classes)


def check_labels(labels: np.ndarray | torch.Tensor, classes: int) -> None:
    """``BadInput`` unless all are classes, or -100. Labels that are no whole numbers are let through."""
    values = torch.as_tensor(labels)
    if values.is_floating_point() or values.dtype == torch.bool:
        return
    wrong = ((values < 0) & (values != IGNORED)) | (values >= classes)
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0, 0])
        raise BadInput(
            f"label {int(values[wrong][0])} (row {row}) is outside 0 to {classes - 1}: the model has {classes} classes"
        )


def _labels(dataset: Any) -> np.ndarray | None:
    values: Any = None
    if isinstance(dataset, list | tuple):
        name = next((name for name in _LABEL_NAMES if isinstance(dataset[0], Mapping) and name in dataset[0]), None)
        values = name and [row.get(name) for row in dataset]
    elif hasattr(dataset, "column_names") and hasattr(dataset, "with_format"):
        name = next((name for name in _LABEL_NAMES if name in dataset.column_names), None)
        values = name and list(dataset.with_format(None)[name])
    try:
        array = np.asarray(values)
    except ValueError:  # lists of different lengths
        return None
    return array if array.dtype.kind in "iu" else None
