"""What the trainings of a pipeline share: progress, one process at a time, and what they leave on disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from instatune_deploy import __version__
from instatune_deploy.devices.host import this_host
from instatune_deploy.devices.runs import Run
from instatune_deploy.devices.runtimes.registry import CPU_FLAGS
from instatune_deploy.errors import BadInput, clear_os_errors
from instatune_deploy.files import whole_folder
from instatune_deploy.pipeline.inputs import PipelineInputs
from instatune_deploy.tasks.base import PIXELS
from instatune_deploy.terminal import Terminal
from instatune_deploy.words import counted

TRAINING_REVISION = 2
"""Raised when `finetune/` or `supernet/` trains to other weights from the same settings: what was kept is trained anew."""


def versions_of(*packages: str) -> dict[str, str]:
    """Of this package and those that a result depends on."""
    return {"instatune-deploy": __version__, **{name: version(name) for name in packages}}


def packages_of(runs: Iterable[Run]) -> list[str]:
    """What measures, and what makes the graphs that are measured, in these ways of running."""
    runtimes = sorted({run.runtime for run in runs})
    quantised = any(run.runtime == "openvino" and run.precision == "int8" for run in runs)
    # the graph is made with ONNX Runtime's tools whatever runs it
    return [*dict.fromkeys(["onnxruntime", *runtimes]), *(["nncf"] if quantised else [])]


def trained_on(inputs: PipelineInputs, seed: int, bf16: bool) -> dict[str, Any]:
    """What the weights of every training of a pipeline depend on, beside its settings: a JSON value."""
    return {
        "model": inputs.model_sha256,
        "data": inputs.task.key,
        **inputs.task.trained_on(),
        "seed": seed,
        "bf16": bf16,
        "revision": TRAINING_REVISION,
        "versions": versions_of("torch", "transformers", "accelerate", *inputs.task.packages),
    }


def computes_in_bf16() -> bool:
    """Whether this host computes in bf16 itself."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    return not this_host().cpu_flags.isdisjoint(CPU_FLAGS["bf16"])


def check_one_process() -> None:
    """``BadInput`` under torchrun: one process writes the results, and `alone` would have the others wait for ever."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise BadInput("the command line trains in one process; for several use SuperNetworkTrainer with torchrun")


@contextmanager
def alone(folder: Path, what: str, terminal: Terminal) -> Iterator[None]:
    """One process at a time trains in ``folder``; another that wants the same waits for it. A killed one holds nothing."""
    with clear_os_errors(f"cannot write {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            terminal.result(f"another process is training this {what}; waiting for it")
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def progress(inputs: PipelineInputs, terminal: Terminal) -> Iterator[Callable[[int, int, float], None]]:
    """What a training calls with steps done, steps in all and the loss of late."""
    with terminal.progress(steps_of(inputs)[1], "steps") as advance:
        yield lambda done, total, loss: advance(done, "" if loss != loss else f"loss {loss:.3f}")


def load_model(inputs: PipelineInputs, seed: int) -> Any:
    """The pre-trained model with a classifier for the task's labels, at the size of the task's rows."""
    from instatune_deploy.supernet.load import load_pretrained
    from instatune_deploy.supernet.positions import resized

    model = load_pretrained(inputs.model_folder, inputs.task.label_names, seed)
    if inputs.task.unit == PIXELS:
        resized(model, inputs.task.largest)
    return model


def new_head(inputs: PipelineInputs) -> str | None:
    """A line when the checkpoint has a classifier that is not used, because it is for other labels or reads more than the
    model's does; None when it is used, or there is none."""
    from instatune_deploy.supernet.classifiers import classifier_of
    from instatune_deploy.supernet.load import load_config

    folder, labels = inputs.named_folder or inputs.model_folder, len(inputs.task.label_names)
    found = classifier_of(folder, load_config(folder))
    if found is None or (found.kept and found.labels == labels):
        return None
    if found.labels != labels:
        return f"the checkpoint's classifier has {counted(found.labels, 'label')}, the data {labels}: a new one is made"
    return "the checkpoint's classifier reads more than the class token, which is all that a ViT's does: a new one is made"


def save_model(model: Any, inputs: PipelineInputs, folder: Path) -> None:
    """A checkpoint with its tokenizer or image processor; whole, or not there."""
    from instatune_deploy.supernet.load import quiet_transformers

    with whole_folder(folder) as scratch, quiet_transformers():
        model.save_pretrained(scratch)
        inputs.task.save(scratch, inputs.task.largest)


def steps_of(inputs: PipelineInputs) -> tuple[int, int]:
    """Steps of an epoch, and of the whole training."""
    settings = inputs.settings.finetune
    batches = -(-inputs.task.counts["train"] // settings.batch_size)
    per_epoch = -(-batches // settings.gradient_accumulation_steps)
    return per_epoch, settings.max_steps or -int(-settings.epochs * per_epoch // 1)
