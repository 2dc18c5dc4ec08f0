"""Super-network fine-tuning as the command line does it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from instatune_deploy.config import FinetuneSettings
from instatune_deploy.finetune.batches import LengthGroupedMixin
from instatune_deploy.finetune.mixin import SuperNetworkTrainer
from instatune_deploy.finetune.training import Log, Report, Training
from instatune_deploy.supernet.network import SuperNetwork
from instatune_deploy.supernet.space import SearchSpace


class PipelineTrainer(LengthGroupedMixin, SuperNetworkTrainer):
    """What the command line trains super-networks with: batches of rows of like length, TensorBoard's files where it says."""

    def __init__(self, *positional: Any, tensorboard: bool = False, **named: Any) -> None:
        super().__init__(*positional, tensorboard=tensorboard, **named)


def finetune(
    network: SuperNetwork,
    space: SearchSpace,
    settings: FinetuneSettings,
    rows: Sequence[dict[str, Any]],
    collate: Callable[[list[Any]], Any],
    folder: Path,
    seed: int,
    bf16: bool,
    report: Report,
    teacher: Path | PreTrainedModel | None = None,
    log_folder: Path | None = None,
) -> Log:
    """Train ``network`` in place, heads and neurons ordered by importance before. It is left full, in evaluation mode.

    Arguments as in `Training`, and the teacher as in `SuperNetworkMixin`.
    """
    training = Training(settings, rows, collate, folder, seed, bf16, report, log_folder)
    trainer = PipelineTrainer(network, space=space, settings=settings, teacher=teacher, **training.arguments())
    return training.run(trainer)
