"""Checkpoints of a `transformers.Trainer` without pickles: safetensors and JSON only."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from instatune_deploy.errors import BadInput
from instatune_deploy.files import write_json

OPTIMIZER = "optimizer.safetensors"
TRAINING = "training_state.json"
RANDOM = "random_state"
SCALER = "loss_scale.json"
STATE = "trainer_state.json"
INFINITE = "infinite"


class SafeCheckpoints:
    """A mixin, before `transformers.Trainer`: replaces what it would save with ``torch.save``.

    A resumed training has the weights, optimizer, learning rate and random numbers of an undisturbed one.
    """

    model: Any
    optimizer: Any
    lr_scheduler: Any
    processing_class: Any
    accelerator: Any
    args: Any

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        if not self.args.should_save:
            return
        folder = output_dir or self.args.output_dir
        self.model.save_pretrained(folder, state_dict=state_dict)
        if self.processing_class is not None:
            self.processing_class.save_pretrained(folder)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self.args.should_save:
            return
        state = self.optimizer.state_dict()
        tensors, plain = {}, {}
        for index, values in state["state"].items():
            for name, value in values.items():
                if isinstance(value, torch.Tensor):
                    tensors[f"{index}.{name}"] = value.contiguous()
                else:
                    plain[f"{index}.{name}"] = value
        save_file(tensors, Path(output_dir) / OPTIMIZER)
        value = {"state": plain, "groups": state["param_groups"], "scheduler": _plain(self.lr_scheduler.state_dict())}
        write_json(Path(output_dir) / TRAINING, _finite(value))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        training = _infinite(json.loads(_saved(checkpoint, TRAINING).read_text(encoding="utf-8")))
        state: dict[int, dict[str, Any]] = {}
        for key, value in (*load_file(_saved(checkpoint, OPTIMIZER)).items(), *training["state"].items()):
            index, _, name = key.partition(".")
            state.setdefault(int(index), {})[name] = value
        self.optimizer.load_state_dict({"state": state, "param_groups": training["groups"]})
        # LambdaLR wants a word on each of its functions: none of them has a state
        self.lr_scheduler.load_state_dict({**training["scheduler"], "lr_lambdas": [None] * len(training["groups"])})

    def _save_scaler(self, output_dir: str) -> None:
        scaler = self.accelerator.scaler
        if scaler is not None and self.args.should_save:
            write_json(Path(output_dir) / SCALER, scaler.state_dict())

    def _load_scaler(self, checkpoint: str | None) -> None:
        scaler = self.accelerator.scaler
        if scaler is not None and checkpoint is not None:
            scaler.load_state_dict(json.loads(_saved(checkpoint, SCALER).read_text(encoding="utf-8")))

    def _save_rng_state(self, output_dir: str) -> None:
        version, words, gauss = random.getstate()
        numpy_state: Any = np.random.get_state()
        tensors = {"cpu": torch.random.get_rng_state(), "numpy": torch.from_numpy(np.array(numpy_state[1]))}
        if torch.cuda.is_available():
            tensors |= {f"cuda_{index}": value for index, value in enumerate(torch.cuda.get_rng_state_all())}
        name = f"{RANDOM}_{self.args.process_index}"
        Path(output_dir).mkdir(parents=True, exist_ok=True)  # the process that writes the weights may not have come so far
        save_file(tensors, Path(output_dir) / f"{name}.safetensors")
        write_json(
            Path(output_dir) / f"{name}.json",
            {"python": [version, list(words), gauss], "numpy": [numpy_state[0], *numpy_state[2:]]},
        )
        self.accelerator.wait_for_everyone()  # the state is written last, when all processes have written theirs

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        name = f"{RANDOM}_{self.args.process_index}"
        tensors = load_file(_saved(checkpoint, f"{name}.safetensors"))
        plain = json.loads(_saved(checkpoint, f"{name}.json").read_text(encoding="utf-8"))
        version, words, gauss = plain["python"]
        random.setstate((version, tuple(words), gauss))
        np.random.set_state((plain["numpy"][0], tensors["numpy"].numpy(), *plain["numpy"][1:]))
        torch.random.set_rng_state(tensors["cpu"])
        count = sum(key.startswith("cuda_") for key in tensors)
        if 0 < count <= torch.cuda.device_count():
            torch.cuda.set_rng_state_all([tensors[f"cuda_{index}"] for index in range(count)])


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint of a training; one that a kill cut short is passed over."""
    found = [path for path in folder.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()]
    for path in sorted(found, key=lambda path: -int(path.name.removeprefix("checkpoint-"))):
        try:
            json.loads((path / STATE).read_text(encoding="utf-8"))  # written last
        except (OSError, ValueError):
            continue
        return path
    return None


def _saved(checkpoint: str, name: str) -> Path:
    """A file of a checkpoint; ``BadInput`` when it was saved without, or by another number of processes."""
    path = Path(checkpoint) / name
    if not path.is_file():
        raise BadInput(
            f"{path}: missing; a training is continued from checkpoints with optimizer and random numbers "
            "(save_only_model=False), by as many processes as saved them"
        )
    return path


def _finite(value: Any) -> Any:
    """JSON has no infinity: a scheduler's best loss so far is one until there is a loss."""
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return {INFINITE: str(value)} if isinstance(value, float) and math.isinf(value) else value


def _infinite(value: Any) -> Any:
    """The inverse of `_finite`."""
    if isinstance(value, dict):
        return float(value[INFINITE]) if INFINITE in value else {name: _infinite(item) for name, item in value.items()}
    return [_infinite(item) for item in value] if isinstance(value, list) else value


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """A scheduler's state without the functions it was built from, which are built anew."""
    return {name: value for name, value in state.items() if name not in {"lr_lambdas", "_get_lr_called_within_step"}}
