"""How the command line trains, whatever it trains: arguments, batches, log, progress, and going on after a stop."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, TrainerCallback, TrainingArguments
from transformers.integrations.integration_utils import TensorBoardCallback
from transformers.utils import logging as transformers_logging

from instatune_deploy.config import FinetuneSettings
from instatune_deploy.finetune.checkpoints import last_checkpoint
from instatune_deploy.supernet.load import quiet_transformers

Report = Callable[[int, int, float], None]
"""Called while training: steps done, steps in all, mean loss of late."""
Log = list[dict[str, float]]
"""Of every tenth step: its number, mean loss and learning rate."""


@dataclass(frozen=True)
class Training:
    """One training: what a Trainer needs beside the model.

    rows:       as ``collate`` takes them, with ``labels``
    collate:    makes a batch of tensors of rows
    folder:     of its checkpoints; a training found there is continued
    log_folder: of TensorBoard's files, or None for none
    """

    settings: FinetuneSettings
    rows: Sequence[dict[str, Any]]
    collate: Callable[[list[Any]], Any]
    folder: Path
    seed: int
    bf16: bool
    report: Report
    log_folder: Path | None = None

    def arguments(self) -> dict[str, Any]:
        """Of a `transformers.Trainer`."""
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        settings = self.settings
        arguments = TrainingArguments(
            output_dir=str(self.folder),
            per_device_train_batch_size=settings.batch_size,
            gradient_accumulation_steps=settings.gradient_accumulation_steps,
            num_train_epochs=settings.epochs,
            max_steps=settings.max_steps or -1,
            learning_rate=settings.learning_rate,
            weight_decay=settings.weight_decay,
            warmup_steps=settings.warmup_ratio,
            max_grad_norm=settings.max_grad_norm,
            optim="adamw_torch_fused",
            bf16=self.bf16,
            seed=self.seed,
            logging_steps=10,
            logging_nan_inf_filter=False,
            save_steps=settings.checkpoint_steps,
            save_total_limit=2,
            eval_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            dataloader_pin_memory=False,
            use_cpu=not torch.cuda.is_available(),
        )
        callbacks: list[TrainerCallback] = [_Progress(self.report)]
        if self.log_folder is not None:
            callbacks.append(_tensorboard(self.log_folder))
        return {
            "args": arguments,
            "train_dataset": self.rows,
            "data_collator": self.collate,
            "callbacks": callbacks,
        }

    def run(self, trainer: Any) -> Log:
        """Train with a Trainer made of `arguments`, from the last checkpoint if any; the model is left in evaluation mode."""
        trainer.remove_callback(PrinterCallback)
        checkpoint = last_checkpoint(self.folder)
        with quiet_transformers(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            transformers_logging.set_verbosity_error()
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        trainer.model.eval()
        return [
            {"step": entry["step"], "loss": entry["loss"], "learning_rate": entry["learning_rate"]}
            for entry in trainer.state.log_history
            if "loss" in entry
        ]


class _Progress(TrainerCallback):
    """Tell how far the training is, at most twice a second."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.last = 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        now = time.monotonic()
        if now - self.last > 0.5 or state.global_step == state.max_steps:
            self.last = now
            losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
            self.report(state.global_step, state.max_steps, losses[-1] if losses else float("nan"))


def _tensorboard(folder: Path) -> TensorBoardCallback:
    callback = TensorBoardCallback()
    callback.logging_dir = str(folder)
    return callback
