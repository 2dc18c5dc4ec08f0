"""A super-network's training that any number of processes can share.

    python -m torch.distributed.run --standalone --nproc_per_node 2 processes.py SETTINGS_FILE

Without dropout, so that only the order of additions differs between one process and two.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import DataCollatorWithPadding

from instatune_deploy.config import FinetuneSettings
from instatune_deploy.finetune.checkpoints import last_checkpoint
from instatune_deploy.finetune.trainer import PipelineTrainer
from instatune_deploy.finetune.training import Training
from instatune_deploy.supernet.load import load_pretrained
from instatune_deploy.supernet.network import SuperNetwork
from instatune_deploy.supernet.space import SearchSpace
from instatune_deploy.tasks.text_inputs import load_tokenizer

SETTINGS: dict[str, Any] = {
    "max_steps": 6, "learning_rate": 1e-3, "importance_rows": 16, "sampler": "sandwich", "checkpoint_steps": 2, "warmup_ratio": 0,
}  # fmt: skip


def train(checkpoint: Path, rows: list[dict[str, Any]], space: SearchSpace, folder: Path, **settings: Any) -> Any:
    """The trainer, when it is done; every step's loss stands in its log."""
    model = load_pretrained(checkpoint, ["negative", "positive"], seed=0)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    teacher = load_pretrained(checkpoint, ["negative", "positive"], seed=1)
    chosen = FinetuneSettings(**{**SETTINGS, **settings})
    training = Training(chosen, rows, DataCollatorWithPadding(load_tokenizer(checkpoint)), folder, 0, False, lambda *_: None)
    arguments = training.arguments()
    arguments["args"].logging_steps = 1
    trainer = PipelineTrainer(SuperNetwork(model), space=space, settings=chosen, teacher=teacher, **arguments)
    training.run(trainer)
    return trainer


def losses(trainer: Any) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def held_out(trainer: Any, rows: list[dict[str, Any]]) -> dict[str, float]:
    """Loss and accuracy of the smallest sub-network on 37 rows: more than one batch for each of two, and not as many for both."""
    trainer.eval_dataset, member = rows[:37], trainer.space.smallest()
    return {"held_out_loss": trainer.held_out_loss(member), "accuracy": trainer.evaluate_architectures([member])[member]}


def main(path: Path) -> None:
    """As the file says; then from the second step's checkpoint again."""
    given = json.loads(path.read_text())
    place = Path(given["checkpoint"]), given["rows"], SearchSpace.from_json(given["space"])
    folder = path.parent / "whole"
    trainer = train(*place, folder, **given["settings"])
    again = path.parent / "again"
    if trainer.is_world_process_zero():
        assert last_checkpoint(folder) == folder / "checkpoint-6"
        save_file(trainer.model.state_dict(), path.parent / "weights.safetensors")
        shutil.copytree(folder / "checkpoint-4", again / "checkpoint-4")
    trainer.accelerator.wait_for_everyone()
    continued = train(*place, again, **given["settings"])
    same = all(torch.equal(value, continued.model.state_dict()[name]) for name, value in trainer.model.state_dict().items())
    result = {"losses": losses(trainer), "processes": trainer.args.world_size, "continued": same, **held_out(trainer, place[1])}
    (path.parent / f"result-{trainer.args.process_index}.json").write_text(json.dumps(result))


def spoil(path: Path, name: str, spoilt: Callable[[Any, Any, Any], Any]) -> None:
    """In the fourth step one process alone meets what stops a training.

    name: of the trainer's method (model, inputs) that ``spoilt`` (it, model, inputs) is called instead of then
    """
    given = json.loads(path.read_text())
    method = getattr(PipelineTrainer, name)

    def replaced(trainer: Any, model: Any, inputs: Any, **named: Any) -> Any:
        own = functools.partial(method, trainer, **named)
        if trainer.args.process_index == 1 and trainer.state.global_step == 3:
            return spoilt(own, model, inputs)
        return own(model, inputs)

    setattr(PipelineTrainer, name, replaced)
    try:
        folder = path.parent / name
        train(Path(given["checkpoint"]), given["rows"], SearchSpace.from_json(given["space"]), folder, **given["settings"])
    except Exception as error:
        (path.parent / f"{name}-{os.environ['RANK']}.json").write_text(json.dumps([type(error).__name__, str(error)]))
    setattr(PipelineTrainer, name, method)


def no_number(own: Any, model: Any, inputs: Any) -> Any:
    loss, outputs = own(model, inputs)
    return loss * float("nan"), outputs


def no_class(own: Any, model: Any, inputs: Any) -> Any:
    return own(model, {**inputs, "labels": inputs["labels"] + 7})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    spoil(Path(sys.argv[1]), "batch_loss", no_number)
    spoil(Path(sys.argv[1]), "compute_loss", no_class)
