"""A super-network's training that any number of processes can share.

    python -m torch.distributed.run --standalone --nproc_per_node 2 processes.py SETTINGS_FILE

Without dropout, so that only the order of additions differs between one process and two.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from instatune_deploy.config import FinetuneSettings
from instatune_deploy.finetune.checkpoints import last_checkpoint
from instatune_deploy.finetune.trainer import _Trainer
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
    training = Training(chosen, rows, load_tokenizer(checkpoint), folder, 0, False, lambda *_: None)
    arguments = training.arguments()
    arguments["args"].logging_steps = 1
    trainer = _Trainer(SuperNetwork(model), space=space, settings=chosen, teacher=teacher, **arguments)
    training.run(trainer)
    return trainer


def losses(trainer: Any) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


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
    result = {"losses": losses(trainer), "processes": trainer.args.world_size, "continued": same}
    (path.parent / f"result-{trainer.args.process_index}.json").write_text(json.dumps(result))


def spoil(path: Path) -> None:
    """One process alone meets a loss that is no number."""
    given = json.loads(path.read_text())
    step = _Trainer.batch_loss

    def spoilt(trainer: Any, model: Any, inputs: Any) -> Any:
        loss, outputs = step(trainer, model, inputs)
        return (loss * float("nan") if trainer.args.process_index == 1 and trainer.state.global_step == 3 else loss), outputs

    _Trainer.batch_loss = spoilt  # type: ignore[method-assign]
    try:
        folder = path.parent / "spoilt"
        train(Path(given["checkpoint"]), given["rows"], SearchSpace.from_json(given["space"]), folder, **given["settings"])
    except Exception as error:
        import os

        (path.parent / f"spoilt-{os.environ['RANK']}.json").write_text(json.dumps([type(error).__name__, str(error)]))
    _Trainer.batch_loss = step  # type: ignore[method-assign]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    spoil(Path(sys.argv[1]))
