"""The teacher of Eq. 1: the same architecture, fine-tuned on the task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from instatune_deploy.config import TRAIN_TEACHER
from instatune_deploy.errors import BadInput
from instatune_deploy.supernet.families import family_of
from instatune_deploy.supernet.load import from_folder, load_config
from instatune_deploy.supernet.network import SuperNetwork, model_shape
from instatune_deploy.tasks.references import check_model_folder

_SIZES = ("layers", "heads", "mlp_width", "hidden_size", "head_size", "fixed_parameters")


def load_teacher(teacher: str | Path | PreTrainedModel | SuperNetwork, network: SuperNetwork) -> PreTrainedModel:
    """A model that can teach ``network``, in evaluation mode and without gradients.

    teacher: a checkpoint folder, or a model that shares no weights with it. ``BadInput`` unless it is of the same type and
    shape, has the same labels in the same order, and a classifier of its own.
    """
    where = "teacher"
    if teacher == TRAIN_TEACHER:
        raise BadInput("teacher: 'train' is for pipeline files: give a checkpoint folder or a model")
    if isinstance(teacher, SuperNetwork):
        teacher = teacher.model
    if not isinstance(teacher, PreTrainedModel):
        folder = Path(teacher)
        if not folder.is_dir():
            raise BadInput(f"teacher: {folder}: no such folder")
        where = f"teacher {folder}"
        check_model_folder(folder)
        config = load_config(folder)
        _check_labels(config, network.config, where)
        _check_type(config, network.config, where)
        # with a head like the model's, which may be one for every token
        with torch.random.fork_rng(devices=[]):
            made: tuple[PreTrainedModel, dict[str, Any]] = from_folder(type(network.model), folder, config)
        teacher, found = made
        _check_complete(found, folder)
    else:
        own = {id(parameter) for parameter in network.parameters()}
        if any(id(parameter) in own for parameter in teacher.parameters()):
            raise BadInput("a teacher must be another model: this one has the weights of the model that is trained")
        _check_labels(teacher.config, network.config, where)
        _check_type(teacher.config, network.config, where)
    shape = model_shape(teacher, family_of(teacher.config.model_type, where))
    if shape.image_size != network.shape.image_size:
        raise BadInput(f"{where}: for images of {shape.image_size} px, and the model is for {network.shape.image_size} px")
    for size in _SIZES:
        has, wanted = getattr(shape, size), getattr(network.shape, size)
        if has != wanted:
            raise BadInput(f"{where}: another shape than the model: {size.replace('_', ' ')} {has}, not {wanted}")
    return teacher.eval().requires_grad_(False)


def _check_type(config: object, wanted: object, where: str) -> None:
    has, needed = getattr(config, "model_type", None), getattr(wanted, "model_type", None)
    if has != needed:
        raise BadInput(f"{where}: another architecture than the model: '{has}', not '{needed}'")


def _check_labels(config: object, wanted: object, where: str) -> None:
    has, needed = (list(getattr(item, "id2label", {}).values()) for item in (config, wanted))
    # made up by transformers where nobody named them: only their number says something
    unnamed = [f"LABEL_{index}" for index in range(len(needed))]
    if has != needed and (len(has) != len(needed) or unnamed not in (has, needed)):
        raise BadInput(f"{where}: other labels than the model: {', '.join(has)}, not {', '.join(needed)}")


def _check_complete(found: dict[str, Any], folder: Path) -> None:
    """What a checkpoint lacks starts at random, which is no teacher. found: what transformers says, by the model's own names"""
    missing = sorted({*found["missing_keys"], *(name for name, *_ in found["mismatched_keys"])})
    if missing:
        raise BadInput(f"teacher {folder}: not fine-tuned: '{missing[0]}' is missing")
