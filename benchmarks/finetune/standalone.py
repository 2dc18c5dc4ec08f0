"""Makes networks that are fine-tuned for themselves: the full one, ones cut out of it, and what Torch-Pruning left of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.finetune.alone import phases
from benchmarks.finetune.pruning import load_pruned, weights_path
from benchmarks.finetune.trainings import FULL_FIRST, Training, Workshop
from instatune_deploy.config import TRAIN_TEACHER
from instatune_deploy.finetune.dropout import Dropout
from instatune_deploy.finetune.ordering import batches_for_importance, ordering_step
from instatune_deploy.finetune.ordinary import finetune_ordinary
from instatune_deploy.pipeline.inputs import PipelineInputs
from instatune_deploy.pipeline.teacher import teacher_of, train_teacher
from instatune_deploy.pipeline.training import computes_in_bf16, load_model, save_model, steps_of
from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.supernet.importance import corrected, order_by_importance
from instatune_deploy.supernet.network import SuperNetwork
from instatune_deploy.terminal import Terminal

Rows = Sequence[dict[str, Any]]


def full_first(inputs: PipelineInputs, seed: int, folder: Path) -> Path:
    """The checkpoint of the full network, fine-tuned for the first phase only."""
    model = load_model(inputs, seed)
    first, _ = phase_rows(inputs, seed)
    if first:
        _finetune(model, inputs, first, seed, folder, one_phase=True)
    save_model(model, inputs, folder / "model")
    return folder / "model"


def finetuned_alone(training: Training, inputs: PipelineInputs, workshop: Workshop, folder: Path) -> Any:
    """A network of any size after all its passes, in evaluation mode."""
    continued = training.start == FULL_FIRST
    begun = Path(workshop.made(training.full_first).result["model"]) if continued else inputs.model_folder
    if training.pruning is not None:
        network, architecture = load_pruned(workshop.work, training.subject, weights_path(workshop, training))
        model = network.extract(architecture)
    else:
        assert training.architecture is not None
        network = SuperNetwork(load_model(replace(inputs, model_folder=begun), training.seed)).eval()
        whole = training.architecture == network.shape.full()
        if whole and not continued and inputs.settings.finetune.dropout != "none":
            return _full(inputs, workshop.work, training.seed)
        model = cut_out(network, training.architecture, inputs, training.seed, correct=continued)
    rows = phase_rows(inputs, training.seed)[1] if continued else inputs.task.training_rows(training.seed)
    _finetune(model, inputs, rows, training.seed, folder, one_phase=continued)
    return model


def cut_out(network: SuperNetwork, architecture: Architecture, inputs: PipelineInputs, seed: int, correct: bool) -> Any:
    """A small model of the most important heads and neurons, by the criterion and on the rows of a super-network of this seed.

    correct: also fit what is kept, for this one size
    """
    if {*architecture.heads} == {network.shape.heads} and {*architecture.mlp_widths} == {network.shape.mlp_width}:
        return network.extract(architecture)  # nothing to choose, nothing to make up for
    settings, collate = inputs.settings.finetune, inputs.task.collator()
    rows = inputs.task.training_rows(seed)
    batches = batches_for_importance(rows, collate, settings.importance_rows, settings.batch_size, seed)
    order_by_importance(network, batches, settings.importance)
    return corrected(network, batches, architecture) if correct else network.extract(architecture)


def phase_rows(inputs: PipelineInputs, seed: int) -> tuple[Rows, Rows]:
    """The rows of both phases, parted where a super-network begins to train its sub-networks."""
    settings, rows = inputs.settings.finetune, inputs.task.training_rows(seed)
    per_epoch, steps = steps_of(inputs)
    alone = ordering_step(settings.full_epochs, per_epoch, steps, settings.max_steps is not None)
    of_step = settings.batch_size * settings.gradient_accumulation_steps
    total = round(settings.epochs * len(rows)) if settings.max_steps is None else settings.max_steps * of_step
    return phases(rows, total, alone * of_step, seed)


def _finetune(model: Any, inputs: PipelineInputs, rows: Rows, seed: int, folder: Path, one_phase: bool) -> None:
    """Ordinary fine-tuning; of one phase, which sees its rows once."""
    settings, checkpoints = inputs.settings.finetune, folder / "checkpoints"
    if one_phase:
        settings = settings.model_copy(update={"epochs": 1.0, "max_steps": None})
    Dropout(model).switch(settings.dropout != "none")
    nothing: Callable[[int, int, float], None] = lambda *done: None  # noqa: E731
    finetune_ordinary(model, settings, rows, inputs.task.collator(), checkpoints, seed, computes_in_bf16(), nothing)
    shutil.rmtree(checkpoints, ignore_errors=True)


def _full(inputs: PipelineInputs, work: Path, seed: int) -> Any:
    """The full network, which is also what teaches where there is a teacher: trained once for both."""
    finetune = inputs.settings.finetune.model_copy(update={"teacher": TRAIN_TEACHER})
    taught = replace(inputs, settings=inputs.settings.model_copy(update={"finetune": finetune}))
    teacher = teacher_of(taught, work, seed, computes_in_bf16())
    assert teacher is not None
    train_teacher(teacher, taught, seed, computes_in_bf16(), Terminal())
    return load_model(replace(inputs, model_folder=teacher.folder), seed)
