"""The teacher of a pipeline's super-network: a checkpoint that is given, or one that is trained first and kept."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from instatune_deploy.config import TRAIN_TEACHER
from instatune_deploy.digests import digest, folder_sha256
from instatune_deploy.errors import clear_os_errors
from instatune_deploy.files import write_json
from instatune_deploy.pipeline.inputs import PipelineInputs
from instatune_deploy.pipeline.training import alone, load_model, progress, save_model, trained_on
from instatune_deploy.tasks.references import resolve
from instatune_deploy.terminal import Terminal

DONE = "teacher.json"
_ORDINARY = {
    "epochs", "max_steps", "batch_size", "gradient_accumulation_steps", "learning_rate", "weight_decay", "warmup_ratio",
    "max_grad_norm",
}  # fmt: skip
"""Settings that ordinary fine-tuning depends on."""


@dataclass(frozen=True)
class Teacher:
    """Where a teacher's checkpoint is, or will be, and what its weights depend on."""

    folder: Path
    key: str


def teacher_of(inputs: PipelineInputs, work: Path, seed: int, bf16: bool) -> Teacher | None:
    """The teacher that the settings name; nothing is trained yet. ``BadInput`` for a reference that leads nowhere."""
    settings = inputs.settings.finetune
    if settings.teacher is None:
        return None
    if settings.teacher != TRAIN_TEACHER:
        where = "finetune.teacher"
        folder = resolve(settings.teacher, sha256=settings.teacher_sha256, kind="model", where=where)
        return Teacher(folder, folder_sha256(folder))
    key = digest({**trained_on(inputs, seed, bf16), "finetune": settings.model_dump(include=_ORDINARY)})[:16]
    return Teacher(work / "teachers" / key / "model", key)


def train_teacher(teacher: Teacher, inputs: PipelineInputs, seed: int, bf16: bool, terminal: Terminal) -> None:
    """Ordinary fine-tuning of the pipeline's model, with the same settings; nothing when it is given or was trained before."""
    if inputs.settings.finetune.teacher != TRAIN_TEACHER:
        return
    folder = teacher.folder.parent
    with alone(folder, "teacher", terminal):
        if (folder / DONE).is_file():
            terminal.result(f"teacher trained before ({folder}), reused")
            return
        from instatune_deploy.finetune.ordinary import finetune_ordinary

        checkpoints = folder / "checkpoints"
        with clear_os_errors(f"cannot write {folder}"):
            model = load_model(inputs, seed)
            rows = inputs.task.training_rows(seed)
            terminal.result(f"the teacher is trained first, on {len(rows)} rows")
            settings = inputs.settings.finetune
            with progress(inputs, terminal) as report:
                log = finetune_ordinary(
                    model, settings, rows, inputs.task.collator(), checkpoints, seed, bf16, report, folder / "tensorboard"
                )
            save_model(model, inputs, teacher.folder)
            write_json(folder / DONE, {"key": teacher.key, "seed": seed, "settings": settings.model_dump(), "log": log})
            shutil.rmtree(checkpoints)
