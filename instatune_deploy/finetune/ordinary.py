"""Ordinary fine-tuning of a model of any size: of teachers, and of what super-networks are compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, Trainer

from instatune_deploy.config import FinetuneSettings
from instatune_deploy.finetune.batches import LengthGroupedMixin
from instatune_deploy.finetune.common import CommonMixin
from instatune_deploy.finetune.training import Log, Report, Training


class OrdinaryTrainer(LengthGroupedMixin, CommonMixin, Trainer):
    """What the command line trains ordinary models with: batches of rows of like length."""


def finetune_ordinary(
    model: PreTrainedModel,
    settings: FinetuneSettings,
    rows: Sequence[dict[str, Any]],
    collate: Callable[[list[Any]], Any],
    folder: Path,
    seed: int,
    bf16: bool,
    report: Report,
    log_folder: Path | None = None,
) -> Log:
    """Train ``model`` in place by the task's loss alone: same arguments, batches and steps as a super-network's.

    A model that a super-network gave (`SuperNetwork.extract`) may be trained too. Arguments as in `Training`.
    """
    training = Training(settings, rows, collate, folder, seed, bf16, report, log_folder)
    return training.run(OrdinaryTrainer(model, **training.arguments()))
