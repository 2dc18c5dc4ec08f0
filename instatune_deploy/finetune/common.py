"""What every training here does, whatever it trains: a mixin, before `transformers.Trainer`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch

from instatune_deploy.errors import BadInput, UserError
from instatune_deploy.finetune.attention import attention_to_train_with
from instatune_deploy.finetune.checkpoints import SafeCheckpoints, last_checkpoint
from instatune_deploy.finetune.checks import IGNORED, check_dataset, check_labels, classes_of
from instatune_deploy.finetune.precision import forward_put_back

Inputs = dict[str, Any]
"""A batch as a model takes it in."""


class CommonMixin(SafeCheckpoints):
    """Every row counts the same, however a step is split; a loss that is no number stops the training; no pickles.

    The Trainer leaves it to each model whether its loss is scaled by the rows of a whole step, and for most classifiers
    accumulated gradients or several processes come out too large. Here a batch's loss is its mean, times its share of
    the step's rows: 2 x 16 rows and 1 x 32 rows are the same step.
    """

    loss_is_scaled_for_ga: bool | None = True

    args: Any
    accelerator: Any
    state: Any
    current_gradient_accumulation_steps: int
    compute_loss_func: Any

    def __init__(self, *positional: Any, **named: Any) -> None:
        super().__init__(*positional, **named)
        if self.args.n_gpu > 1:
            logging.getLogger(__name__).warning("one GPU is used; for several start with torchrun --nproc_per_node")
            self.args._n_gpu = 1  # as the Trainer does where it cannot replicate a model in one process
        # so that the Trainer counts the rows of a step for every model; the model is not told
        self.model_accepts_loss_kwargs = True
        self.classes = classes_of(self.model)
        if self.train_dataset is not None:  # type: ignore[attr-defined]
            rows = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
            check_dataset(self.train_dataset, rows, self.classes)  # type: ignore[attr-defined]

    def train(self, *positional: Any, **named: Any) -> Any:
        """The Trainer's; on a CPU with the attention that is the fastest there. Afterwards the model computes in float32."""
        with forward_put_back(self.model), attention_to_train_with(self.model, self.args.device):
            return super().train(*positional, **named)  # type: ignore[misc]

    def evaluation_loop(self, *positional: Any, **named: Any) -> Any:
        """The Trainer's, which leaves nothing on the model either when nothing was trained before."""
        with forward_put_back(self.model):
            return super().evaluation_loop(*positional, **named)  # type: ignore[misc]

    def compute_loss(self, model: Any, inputs: Inputs, return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
        """`batch_loss`, in training weighed by the batch's share of the step's rows.

        num_items_in_batch: labels of the step, in all its batches (and processes)
        """
        if self.classes is not None and "labels" in inputs:
            self._check_labels(inputs["labels"], self.classes)
        share = self._share(inputs, num_items_in_batch) if model.training else 1.0
        loss, outputs = self.batch_loss(model, inputs)
        return (loss * share, outputs) if return_outputs else loss * share

    def batch_loss(self, model: Any, inputs: Inputs) -> tuple[torch.Tensor, Any]:
        """The mean loss of a batch as the Trainer, or a subclass of it, computes it, and the model's outputs."""
        # a loss function of the user's may divide by the items: by those of this batch
        items = _items(inputs) if self.compute_loss_func is not None else None
        loss, outputs = super().compute_loss(  # type: ignore[misc]
            model, dict(inputs), return_outputs=True, num_items_in_batch=items
        )
        if items is not None and self.args.average_tokens_across_devices:
            loss = loss / self.accelerator.num_processes  # by which the Trainer multiplies then
        return loss, outputs

    def _share(self, inputs: Inputs, of_step: Any) -> Any:
        if of_step is None:
            return 1 / self.current_gradient_accumulation_steps
        # gradients and logged losses of the processes are averaged
        processes = self.accelerator.num_processes if self.args.average_tokens_across_devices else 1
        return _items(inputs) * processes / of_step

    def training_step(self, model: Any, inputs: Inputs, *rest: Any, **named: Any) -> torch.Tensor:
        """The Trainer's; ``UserError`` in every process when the loss of any of them is no number."""
        loss: torch.Tensor = super().training_step(model, inputs, *rest, **named)  # type: ignore[misc]
        self._stop_unless(bool(torch.isfinite(loss)), "the loss is")
        return loss

    def _save_checkpoint(self, *positional: Any, **named: Any) -> None:
        """The last good checkpoint is not followed, and in time replaced, by a bad one."""
        finite = all(bool(torch.isfinite(parameter).all()) for parameter in self.model.parameters())
        self._stop_unless(finite, "a weight is", done=True)
        super()._save_checkpoint(*positional, **named)  # type: ignore[misc]

    def _check_labels(self, labels: torch.Tensor, classes: int) -> None:
        """``BadInput`` in every process when any of them meets a label that is no class: none is left waiting."""
        wrong: BadInput | None = None
        try:
            check_labels(labels, classes)
        except BadInput as error:
            wrong = error
        if self._anywhere(wrong is not None):
            raise wrong or BadInput(f"another process met a label outside 0 to {classes - 1}: the model has {classes} classes")

    def _anywhere(self, here: bool) -> bool:
        """Whether it is so in any process."""
        if self.accelerator.num_processes == 1:
            return here
        return bool(self.accelerator.reduce(torch.tensor(float(here), device=self.args.device)))

    def _stop_unless(self, finite: bool, what: str, done: bool = False) -> None:
        if not self._anywhere(not finite):
            return
        kept = last_checkpoint(Path(self.args.output_dir))
        raise UserError(
            f"{what} no longer a number at step {self.state.global_step + (0 if done else 1)}: "
            "lower the learning rate (finetune.learning_rate in a pipeline file) and run again"
            + (f"; {kept} is kept" if kept else "")
        )


def _items(inputs: Inputs) -> torch.Tensor:
    """Labels of a batch that count, as the Trainer counts those of a step."""
    count: torch.Tensor = inputs["labels"].ne(IGNORED).sum()
    return count
