"""A super-network in a working `transformers.Trainer`: a few lines, and the Trainer's own features stay.

    trainer = SuperNetworkTrainer(model=model, args=args, train_dataset=rows, data_collator=collate, space="wide")
    trainer.train()
    small = trainer.supernetwork.extract(trainer.space.smallest())

Whoever has a Trainer of his own writes ``class MyTrainer(SuperNetworkMixin, TheirTrainer)``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence, Sized
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast
from transformers import PreTrainedModel, Trainer, TrainerCallback
from transformers.integrations.integration_utils import TensorBoardCallback

from instatune_deploy.config import FinetuneSettings, SpaceSettings
from instatune_deploy.errors import BadInput
from instatune_deploy.finetune.checks import IGNORED, check_labels, check_recipe
from instatune_deploy.finetune.common import CommonMixin, Inputs
from instatune_deploy.finetune.dropout import Dropout
from instatune_deploy.finetune.evaluate import Remembered, evaluating
from instatune_deploy.finetune.losses import Outcome, instatune_loss
from instatune_deploy.finetune.ordering import batches_for_importance, like_length_batches, ordering_step, reorder
from instatune_deploy.finetune.sampling import SAMPLERS, Draw, Relative, step_rng
from instatune_deploy.finetune.space import space_for
from instatune_deploy.finetune.teacher import load_teacher
from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.supernet.importance import correct_prefixes, importance_of, layer_order, most_important_first
from instatune_deploy.supernet.network import SuperNetwork
from instatune_deploy.supernet.sharing import shared_embeddings
from instatune_deploy.supernet.space import SearchSpace

HELD_OUT_ROWS = 256
"""Rows of the evaluation data that `SuperNetworkMixin.held_out_loss` looks at."""


class SuperNetworkMixin(CommonMixin):
    """Before a Trainer: every step trains the full network and sampled sub-networks by Eq. 1 (`losses`).

    The task's loss is the Trainer's own, label smoothing and ``compute_loss_func`` included, or a subclass's
    ``compute_loss``, called once for each network. Evaluation, saving and logging are those of the full network.

    model:    a Hugging Face model of a supported family, which becomes elastic, or a `SuperNetwork`
    space:    a `SearchSpace`, the settings of one, or the name of a preset
    teacher:  a fine-tuned checkpoint folder or model (`teacher`), or None
    settings: alpha, gamma, temperature, teacher_epochs, sampler, samples, importance, importance_rows, full_epochs,
              correct_prefixes and dropout count; what the Trainer's arguments say too (batch size, learning rate, ...) is theirs
    tensorboard: log to TensorBoard where the Trainer's arguments name nothing that it reports to

    ``BadInput`` for what cannot be used.
    """

    supernetwork: SuperNetwork
    space: SearchSpace

    def __init__(
        self,
        model: PreTrainedModel | SuperNetwork | None = None,
        args: Any = None,
        *positional: Any,
        space: SearchSpace | SpaceSettings | str = "paper",
        teacher: str | Path | PreTrainedModel | None = None,
        settings: FinetuneSettings | None = None,
        tensorboard: bool = True,
        **named: Any,
    ) -> None:
        if model is None:
            raise BadInput("a super-network needs a model; model_init is not supported")
        network = model if isinstance(model, SuperNetwork) else SuperNetwork(model)
        super().__init__(network.model, args, *positional, **named)
        self.supernetwork = network
        self.settings = settings or FinetuneSettings()
        check_recipe(network.model, self.args, self.settings)
        self.space = space_for(network, space, self._importance_layers)
        self.cost = Relative(self.space, network.shape)
        self.dropout = Dropout(network)
        given = self.settings.teacher if teacher is None else teacher
        self.teacher = None if given is None else load_teacher(given, network).to(self.args.device)
        self.steps_per_epoch: float = math.inf
        self._accuracies: tuple[Any, Remembered[float]] | None = None
        self.add_callback(_Hooks(self))  # type: ignore[attr-defined]
        if tensorboard and not self.args.report_to:
            self.add_callback(TensorBoardCallback())  # type: ignore[attr-defined]

    # --- the loss ---

    def batch_loss(self, model: Any, inputs: Inputs) -> tuple[torch.Tensor, Any]:
        """Eq. 1 on one batch: the full network, then the sub-networks of this step, whose weights are views of its."""
        if not model.training:
            return super().batch_loss(model, inputs)
        settings, labels = self.settings, inputs.get("labels")
        subs, members = [], self.sub_networks()
        try:
            with self._sharing():
                self.supernetwork.activate(self.space.largest())
                self.dropout.switch(settings.dropout != "none")
                loss, outputs = super().batch_loss(model, inputs)
                full = Outcome(loss, _counted(outputs, labels))
                self.dropout.switch(settings.dropout == "model")
                # not through the wrapper of several processes, which expects one pass; it averages the gradients of all
                for architecture in members:
                    self.supernetwork.activate(architecture)
                    loss, made = super().batch_loss(self.model, inputs)
                    subs.append(Outcome(loss, _counted(made, labels)))
        finally:  # also when a user stops it, or a sub-network's loss raises: what is left is the full network as it was
            self.supernetwork.activate(self.space.largest())
            self.dropout.switch(True)
        teacher = self._teacher_logits(inputs)
        return instatune_loss(full, subs, teacher, settings.alpha, settings.gamma, settings.temperature), outputs

    def _sharing(self) -> AbstractContextManager[None]:
        """Where the full network alone drops out, its embeddings are no other's."""
        return nullcontext() if self.settings.dropout == "full" else shared_embeddings(self.supernetwork)

    def _teacher_logits(self, inputs: Inputs) -> torch.Tensor | None:
        epochs = self.settings.teacher_epochs
        late = epochs is not None and self.state.global_step >= epochs * self.steps_per_epoch
        if self.teacher is None or late or not self.settings.gamma:
            return None
        questions = {name: value for name, value in inputs.items() if name != "labels"}
        with torch.no_grad(), self.accelerator.autocast():
            return _counted(self.teacher(**questions), inputs.get("labels"))

    # --- what is sampled ---

    def sub_networks(self) -> list[Architecture]:
        """Those of the current step; none while the full network trains alone."""
        step = self.state.global_step
        if step < self._ordering_step:
            return []
        draw = Draw(
            space=self.space,
            rng=step_rng(self.args.seed, step),
            step=step,
            steps=self.state.max_steps,
            seed=self.args.seed,
            count=self.settings.samples,
            cost=self.cost,
            held_out_loss=self.held_out_loss,
        )
        return SAMPLERS[self.settings.sampler](draw)

    def held_out_loss(self, architecture: Architecture) -> float:
        """The task's mean loss of a sub-network on the first evaluation rows; the same number in all processes."""
        dataset = self._held_out(None, f"sampler '{self.settings.sampler}'")
        total, rows = 0.0, 0
        with evaluating(self.supernetwork, architecture):
            for batch in self._held_out_batches(islice(_rows(dataset), HELD_OUT_ROWS)):
                total += float(super().batch_loss(self.model, batch)[0]) * len(batch["labels"])
                rows += len(batch["labels"])
        return float(broadcast(torch.tensor(total / rows, device=self.args.device)))

    # --- importance ---

    @property
    def _ordering_step(self) -> float:
        """The first step with sub-networks, before which heads and neurons are ordered."""
        alone = self.settings.full_epochs
        if not alone or math.isinf(self.steps_per_epoch):
            return alone and math.inf
        return ordering_step(alone, self.steps_per_epoch, self.state.max_steps, self.args.max_steps > 0)

    def order_by_importance(self) -> None:
        """Order heads and neurons of every layer, and what the optimizer remembers of them. The same in all processes."""
        settings = self.settings
        batches = self._importance_batches()
        importance = importance_of(self.supernetwork, batches, settings.importance)
        heads, neurons = (broadcast(values.to(self.args.device)).cpu() for values in importance)
        orders = [(most_important_first(heads[layer]), most_important_first(neurons[layer])) for layer in range(len(heads))]
        reorder(self.supernetwork, orders, self.optimizer)
        if settings.correct_prefixes:
            self._correct_prefixes(batches)

    def _correct_prefixes(self, batches: list[Inputs]) -> None:
        """After the ordering. What the optimizer remembers belongs to weights that are no more."""
        correct_prefixes(self.supernetwork, batches, self.space.heads, self.space.mlp_widths)
        with torch.no_grad():
            for parameter in self.supernetwork.parameters():
                parameter.copy_(broadcast(parameter.detach()))
        if self.optimizer is not None:
            self.optimizer.state.clear()

    def _importance_layers(self) -> list[int]:
        order = torch.tensor(layer_order(self.supernetwork, self._importance_batches()), device=self.args.device)
        found: list[int] = broadcast(order).tolist()
        return found

    def _importance_batches(self) -> list[Inputs]:
        dataset = self.train_dataset  # type: ignore[attr-defined]
        if not self.settings.importance_rows:
            return []
        if dataset is None:
            raise BadInput("ordering by importance needs a train_dataset; settings.importance_rows=0 leaves the order")
        size = self.args.per_device_train_batch_size
        batches = batches_for_importance(dataset, self._collate, self.settings.importance_rows, size, self.args.seed)
        for batch in batches:
            if self.classes is not None and "labels" in batch:
                check_labels(batch["labels"], self.classes)
        return self._prepared(batches)

    @property
    def _collate(self) -> Any:
        return self._get_collator_with_removed_columns(self.data_collator, "training")  # type: ignore[attr-defined]

    def _prepared(self, batches: Iterable[Inputs]) -> list[Inputs]:
        return [dict(self._prepare_inputs(batch)) for batch in batches]  # type: ignore[attr-defined]

    def _held_out(self, dataset: Any, who: str) -> Any:
        """``dataset``, or the Trainer's own evaluation rows; of several the first. ``BadInput`` where there are none."""
        found = self.eval_dataset if dataset is None else dataset  # type: ignore[attr-defined]
        found = found or None if isinstance(found, dict) else found
        if found is None:
            raise BadInput(f"{who} needs an eval_dataset: it looks at held-out rows")
        return next(iter(found.values())) if isinstance(found, dict) else found

    def _held_out_batches(self, rows: Iterable[Any]) -> Iterator[Inputs]:
        for batch in like_length_batches(rows, self._collate, self.args.per_device_eval_batch_size):
            yield dict(self._prepare_inputs(batch))  # type: ignore[attr-defined]

    # --- what is there afterwards ---

    def evaluate_architectures(
        self, architectures: Sequence[Architecture], eval_dataset: Any = None
    ) -> dict[Architecture, float]:
        """Accuracy of each, 0 to 1: the share of labels (-100 aside) whose logit is the largest, in float32.

        eval_dataset: the Trainer's own by default; of several the first. As long as neither rows nor weights change, an
        architecture is computed once. Several processes share the rows, and all get the same numbers.
        """
        dataset = self._held_out(eval_dataset, "evaluate_architectures")
        if self._accuracies is None or self._accuracies[0] is not dataset:
            self._accuracies = dataset, Remembered(self.supernetwork, lambda member: self._accuracy(member, dataset))
        return {architecture: self._accuracies[1](architecture) for architecture in architectures}

    def _accuracy(self, architecture: Architecture, dataset: Any) -> float:
        counts = torch.zeros(2, dtype=torch.int64, device=self.args.device)
        with evaluating(self.supernetwork, architecture):
            batches = self._held_out_batches(_rows(dataset))
            for batch in islice(batches, self.args.process_index, None, self.args.world_size):
                labels = batch.pop("labels", None)
                logits = _logits(self.model(**batch))
                if labels is None or labels.shape != logits.shape[:-1]:
                    raise BadInput("evaluate_architectures needs rows with one class as label, or one for every token")
                right = logits.argmax(-1) == labels
                counts += torch.stack([right.sum(), (labels != IGNORED).sum()])
        right_of_all, total = self.accelerator.reduce(counts).tolist()
        if not total:
            raise BadInput("evaluate_architectures needs labels: the rows have none")
        return float(right_of_all / total)


class SuperNetworkTrainer(SuperNetworkMixin, Trainer):
    """`transformers.Trainer` for super-networks; arguments and errors are those of `SuperNetworkMixin`."""


class _Hooks(TrainerCallback):
    """What happens at certain steps of a training."""

    def __init__(self, trainer: SuperNetworkMixin) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, train_dataloader: Any = None, **_: Any) -> None:
        try:
            batches = len(train_dataloader)
        except TypeError:  # rows without end: all of the training is one epoch
            batches = state.max_steps * args.gradient_accumulation_steps
        self.trainer.steps_per_epoch = math.ceil(batches / args.gradient_accumulation_steps)

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        # a training continued at this very step was stopped before it: the checkpoint is not ordered yet
        if state.global_step == self.trainer._ordering_step and self.trainer.settings.orders:
            self.trainer.order_by_importance()


def _counted(outputs: Any, labels: torch.Tensor | None) -> torch.Tensor:
    """Logits, (rows, classes): of every label that counts, where there is one for every token."""
    logits = _logits(outputs)
    if labels is not None and labels.dim() > 1 and labels.shape == logits.shape[:-1]:
        return logits[labels != IGNORED]
    return logits.flatten(0, -2)


def _logits(outputs: Any) -> torch.Tensor:
    found: torch.Tensor | None = outputs.get("logits") if isinstance(outputs, dict) else getattr(outputs, "logits", None)
    if found is None:
        raise BadInput(f"a super-network learns from 'logits' of its model's outputs: {type(outputs).__name__} has none")
    return found


def _rows(dataset: Any) -> Iterator[Any]:
    """Also of a data set that has only rows by number and a length."""
    if not isinstance(dataset, Sized):
        return iter(dataset)
    return (dataset[index] for index in range(len(dataset)))  # type: ignore[index]
