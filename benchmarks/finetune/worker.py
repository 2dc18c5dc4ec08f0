"""Makes one training, and the accuracies wanted of it: ``python -m benchmarks.finetune.worker WORK NEED.json``"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from transformers import DataCollatorWithPadding

from benchmarks.finetune.pruning import load_pruned, weights_path
from benchmarks.finetune.trainings import SPLITS, Made, Need, Split, Training, Workshop
from instatune_deploy.files import read_json, write_json
from instatune_deploy.finetune.evaluate import Evaluator
from instatune_deploy.finetune.ordering import batches_for_importance
from instatune_deploy.finetune.ordinary import finetune_ordinary
from instatune_deploy.pipeline.inputs import PipelineInputs, load_inputs
from instatune_deploy.pipeline.supernet import finetune_stage, load_supernet
from instatune_deploy.pipeline.teacher import TRAIN, teacher_of, train_teacher
from instatune_deploy.pipeline.training import computes_in_bf16, training_rows
from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.supernet.importance import order_by_importance
from instatune_deploy.supernet.load import load_pretrained
from instatune_deploy.supernet.network import SuperNetwork
from instatune_deploy.tasks.text_classification import accuracy
from instatune_deploy.tasks.text_inputs import length_batches, pad
from instatune_deploy.terminal import Terminal

EVALUATION_BATCH = 64


def perform(need: Need, workshop: Workshop) -> None:
    """Train, unless that was done before; then evaluate what was not. Two processes never make the same at a time."""
    made = workshop.made(need.training)
    made.folder.mkdir(parents=True, exist_ok=True)
    with FileLock(made.folder / ".lock"):
        if not (made.folder / "result.json").is_file():
            _train(need.training, workshop.work, made.folder)
        if need.architectures:
            _evaluate(need, workshop.work, made)


def _train(training: Training, work: Path, folder: Path) -> None:
    inputs = load_inputs(training.settings(work))
    start = time.monotonic()
    result: dict[str, Any]
    if training.kind == "super-network":
        result = {"supernet": str(finetune_stage(inputs, work, training.seed, Terminal()).folder)}
    else:
        model = _finetuned(training, inputs, work, folder)
        result = {"accuracy": {split: _accuracy(model, inputs, split) for split in SPLITS}}
    facts = {"training": training.to_json(), "seconds": round(time.monotonic() - start, 1)}
    rows = {split: len(inputs.data.labels[split]) for split in SPLITS}
    write_json(folder / "result.json", {**facts, "rows": rows, **result})


def _finetuned(training: Training, inputs: PipelineInputs, work: Path, folder: Path) -> Any:
    """An ordinary fine-tuning of a network that begins from the pre-trained weights."""
    checkpoints = folder / "checkpoints"
    if training.pruning is not None:
        weights = weights_path(work, training.subject, training.seed, training.pruning)
        network, architecture = load_pruned(work, training.subject, training.seed, weights)
    else:
        assert training.architecture is not None
        architecture = training.architecture
        network = SuperNetwork(load_pretrained(inputs.model_folder, inputs.data.label_names, training.seed))
        if architecture == network.shape.full():
            return _full(inputs, work, training.seed)
        whole = {*architecture.heads} == {network.shape.heads} and {*architecture.mlp_widths} == {network.shape.mlp_width}
        if inputs.settings.finetune.importance_rows and not whole:
            _order(network, inputs, training.seed)
    model = network.extract(architecture)
    settings, rows = inputs.settings.finetune, training_rows(inputs)
    finetune_ordinary(model, settings, rows, inputs.tokenizer, checkpoints, training.seed, computes_in_bf16(), lambda *done: None)
    shutil.rmtree(checkpoints, ignore_errors=True)
    return model


def _full(inputs: PipelineInputs, work: Path, seed: int) -> Any:
    """The full network, which is also what teaches where there is a teacher: trained once for both."""
    finetune = inputs.settings.finetune.model_copy(update={"teacher": TRAIN})
    taught = replace(inputs, settings=inputs.settings.model_copy(update={"finetune": finetune}))
    teacher = teacher_of(taught, work, seed, computes_in_bf16())
    assert teacher is not None
    train_teacher(teacher, taught, seed, computes_in_bf16(), Terminal())
    return load_pretrained(teacher.folder, inputs.data.label_names, seed)


def _order(network: SuperNetwork, inputs: PipelineInputs, seed: int) -> None:
    """Order heads and neurons on the rows and by the criterion that a super-network of this seed is ordered by."""
    settings, collate = inputs.settings.finetune, DataCollatorWithPadding(inputs.tokenizer)
    rows = training_rows(inputs)
    batches = batches_for_importance(rows, collate, settings.importance_rows, settings.batch_size, seed)
    order_by_importance(network, batches, settings.importance)


def _evaluate(need: Need, work: Path, made: Made) -> None:
    """Accuracies that are not known yet, kept one by one."""
    inputs = load_inputs(need.training.settings(work))
    network = load_supernet(Path(made.result["supernet"])).network
    known: dict[str, dict[str, float]] = dict(made.accuracies)
    for split, items in (need.architectures or {}).items():
        tokens, labels = inputs.tokens(split, inputs.settings.data.max_length)
        evaluator = Evaluator(network, tokens, labels, inputs.tokenizer)
        of_split = known.setdefault(split, {})
        for item in items:
            if item.digest not in of_split:
                of_split[item.digest] = evaluator.accuracy(item)
                write_json(made.folder / "accuracies.json", known)


def _accuracy(model: Any, inputs: PipelineInputs, split: Split) -> float:
    """Of an ordinary model, float32, in batches of like length as sub-networks are evaluated."""
    tokens, labels = inputs.tokens(split, inputs.settings.data.max_length)
    lengths = [len(ids) for ids in tokens["input_ids"]]
    logits = torch.empty(len(labels), model.config.num_labels)
    model.eval()
    with torch.inference_mode():
        for indices in length_batches(lengths, EVALUATION_BATCH):
            part = {name: [values[index] for index in indices] for name, values in tokens.items()}
            arrays = pad(part, max(lengths[index] for index in indices), inputs.tokenizer)
            logits[indices] = model(**{name: torch.from_numpy(array) for name, array in arrays.items()}).logits
    return accuracy(logits.numpy(), labels)


def _need(value: Mapping[str, Any]) -> Need:
    wanted: dict[Split, Sequence[Architecture]] = {
        split: [Architecture.from_json(item) for item in items] for split, items in value["architectures"].items()
    }
    return Need(Training.from_json(value["training"]), wanted)


if __name__ == "__main__":
    torch.set_num_threads(1)
    perform(_need(read_json(Path(sys.argv[2]))), Workshop(Path(sys.argv[1])))
