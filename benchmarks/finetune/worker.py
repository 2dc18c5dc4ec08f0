"""Makes one training, and the accuracies wanted of it: ``python -m benchmarks.finetune.worker WORK NEED.json``"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from filelock import FileLock
from torch import nn

from benchmarks.finetune.standalone import finetuned_alone, full_first
from benchmarks.finetune.trainings import FULL_FIRST, SPLITS, Made, Need, Split, Training, Workshop
from instatune_deploy.files import read_json, write_json
from instatune_deploy.finetune.evaluate import BATCH_SIZE, Evaluator
from instatune_deploy.pipeline.inputs import PipelineInputs, load_inputs
from instatune_deploy.pipeline.supernet import finetune_stage, load_supernet
from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.supernet.network import SuperNetwork
from instatune_deploy.terminal import Terminal


def perform(need: Need, workshop: Workshop) -> None:
    """Train, unless that was done before; then evaluate what was not. Two processes never make the same at a time."""
    made = workshop.made(need.training)
    made.folder.mkdir(parents=True, exist_ok=True)
    with FileLock(made.folder / ".lock"):
        if not (made.folder / "result.json").is_file():
            _train(need.training, workshop, made.folder)
        if need.architectures:
            _evaluate(need, workshop.work, made)


def _train(training: Training, workshop: Workshop, folder: Path) -> None:
    """Whatever it is cut out of was made before (`Workshop.make`)."""
    inputs = load_inputs(training.settings(workshop.work))
    start = time.monotonic()
    result: dict[str, Any]
    if training.kind == "super-network":
        result = {"supernet": str(finetune_stage(inputs, workshop.work, training.seed, Terminal()).folder)}
    elif training.kind == FULL_FIRST:
        result = {"model": str(full_first(inputs, training.seed, folder))}
    else:
        model = finetuned_alone(training, inputs, workshop, folder)
        result = {"accuracy": {split: accuracy_alone(model, inputs, split) for split in SPLITS}}
    facts = {"training": training.to_json(), "seconds": round(time.monotonic() - start, 1)}
    rows = {split: len(inputs.task.labels[split]) for split in SPLITS}
    write_json(folder / "result.json", {**facts, "rows": rows, **result})


def _evaluate(need: Need, work: Path, made: Made) -> None:
    """Accuracies that are not known yet, kept one by one."""
    inputs = load_inputs(need.training.settings(work))
    network = load_supernet(Path(made.result["supernet"])).network
    known: dict[str, dict[str, float]] = dict(made.accuracies)
    for split, items in (need.architectures or {}).items():
        evaluator = _evaluator(network, inputs, split)
        of_split = known.setdefault(split, {})
        for item in items:
            if item.digest not in of_split:
                with in_float32(network.model):
                    of_split[item.digest] = evaluator.accuracy(item)
                write_json(made.folder / "accuracies.json", known)


class _One(nn.Module):
    """An ordinary model where the Evaluator expects a super-network: whatever is asked for, it is the one network."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.config = model.config

    def forward(self, **inputs: torch.Tensor) -> Any:
        return self.model(**inputs)

    @contextmanager
    def active(self, architecture: Architecture) -> Iterator[None]:
        yield


def accuracy_alone(model: Any, inputs: PipelineInputs, split: Split) -> float:
    """Of an ordinary model of any size, evaluated as sub-networks are; 0 to 1."""
    depth = model.config.num_hidden_layers
    named = Architecture(tuple(range(depth)), (1,) * depth, (1,) * depth)  # there is only one to ask for
    with in_float32(model):
        return _evaluator(cast(SuperNetwork, _One(model)), inputs, split).accuracy(named)


def _evaluator(network: SuperNetwork, inputs: PipelineInputs, split: Split) -> Evaluator:
    task = inputs.task
    return Evaluator(network, task.batches(split, task.largest, BATCH_SIZE), task.labels[split])


@contextmanager
def in_float32(model: nn.Module) -> Iterator[None]:
    """RuntimeError when a matrix of ``model`` computes in anything else: Accelerate's wrapper would make it bf16."""

    def look(module: nn.Module, _: Any, outputs: torch.Tensor) -> None:
        if outputs.dtype != torch.float32:
            raise RuntimeError(f"{type(module).__name__} computes in {outputs.dtype}: accuracies are those of float32")

    hooks = [module.register_forward_hook(look) for module in model.modules() if isinstance(module, nn.Linear)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _need(value: Mapping[str, Any]) -> Need:
    wanted: dict[Split, Sequence[Architecture]] = {
        split: [Architecture.from_json(item) for item in items] for split, items in value["architectures"].items()
    }
    return Need(Training.from_json(value["training"]), wanted)


if __name__ == "__main__":
    torch.set_num_threads(1)
    perform(_need(read_json(Path(sys.argv[2]))), Workshop(Path(sys.argv[1])))
