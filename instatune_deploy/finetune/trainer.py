"""Super-network fine-tuning: `transformers.Trainer`, with the full network and sampled sub-networks in every step."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import DataCollatorWithPadding, PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_pt_utils import LengthGroupedSampler
from transformers.utils import logging as transformers_logging

from instatune_deploy.config import FinetuneSettings
from instatune_deploy.errors import UserError
from instatune_deploy.finetune.checkpoints import SafeCheckpoints, last_checkpoint
from instatune_deploy.finetune.losses import instatune_loss
from instatune_deploy.finetune.sampling import sample_step
from instatune_deploy.supernet.load import quiet_transformers
from instatune_deploy.supernet.network import SuperNetwork
from instatune_deploy.supernet.space import SearchSpace

Report = Callable[[int, int, float], None]
"""Called while training: steps done, steps in all, mean loss of late."""


class SuperNetworkTrainer(SafeCheckpoints, Trainer):
    """The Trainer of a super-network's Hugging Face model; everything else the Trainer does stays as it is."""

    def __init__(self, network: SuperNetwork, space: SearchSpace, settings: FinetuneSettings, **arguments: Any) -> None:
        super().__init__(model=network.model, **arguments)
        self.network = network
        self.space = space
        self.settings = settings

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Eq. 1 on one batch: the full network, then the sub-networks of this step, whose weights are views of its."""
        labels = inputs.pop("labels")
        self.network.activate(self.space.largest())
        output = model(**inputs)
        if not model.training:
            loss = torch.nn.functional.cross_entropy(output.logits.float(), labels)
            return (loss, output) if return_outputs else loss
        subs = []
        for architecture in sample_step(self.settings.sampler, self.space, self.args.seed, self.state.global_step):
            self.network.activate(architecture)
            subs.append(model(**inputs).logits)
        self.network.activate(self.space.largest())
        loss = instatune_loss(output.logits, subs, labels, self.settings.alpha, self.settings.temperature)
        if not torch.isfinite(loss):
            raise UserError(
                f"the loss is no longer a number at step {self.state.global_step + 1}: lower finetune.learning_rate and run again"
            )
        return (loss, output) if return_outputs else loss

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        size = self.args.train_batch_size * self.args.gradient_accumulation_steps
        rows: Any = self.train_dataset if train_dataset is None else train_dataset
        return _GroupedByLength(rows, size, self.args.seed)


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


def finetune(
    network: SuperNetwork,
    space: SearchSpace,
    settings: FinetuneSettings,
    rows: Sequence[dict[str, Any]],
    tokenizer: Any,
    folder: Path,
    seed: int,
    bf16: bool,
    report: Report,
) -> list[dict[str, float]]:
    """Train ``network`` in place; checkpoints lie in ``folder``, and a training found there is continued.

    rows: tokenised, with ``labels``. Returns the log: step, loss, learning rate.
    """
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=settings.batch_size,
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps or -1,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        warmup_steps=settings.warmup_ratio,
        max_grad_norm=settings.max_grad_norm,
        optim="adamw_torch_fused",
        bf16=bf16,
        seed=seed,
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
    trainer = SuperNetworkTrainer(
        network,
        space,
        settings,
        args=arguments,
        train_dataset=rows,
        data_collator=DataCollatorWithPadding(tokenizer),
        callbacks=[_Progress(report)],
    )
    trainer.remove_callback(PrinterCallback)
    checkpoint = last_checkpoint(folder)
    with quiet_transformers(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transformers_logging.set_verbosity_error()
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    network.activate(space.largest())
    network.eval()
    return [
        {"step": entry["step"], "loss": entry["loss"], "learning_rate": entry["learning_rate"]}
        for entry in trainer.state.log_history
        if "loss" in entry
    ]


class _GroupedByLength(LengthGroupedSampler):
    """Batches of rows of like length, in an order that follows from seed and epoch alone.

    So a training continued in a later epoch sees the rows it would have seen.
    """

    def __init__(self, rows: Sequence[dict[str, Any]], batch_size: int, seed: int) -> None:
        super().__init__(batch_size, lengths=[len(row["input_ids"]) for row in rows], generator=torch.Generator())
        self.seed = seed
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Called by the data loader at the start of every epoch."""
        self.generator.manual_seed((self.seed << 20) + epoch)
