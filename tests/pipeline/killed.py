"""The command line in a process of its own that kills itself (SIGKILL) at a chosen moment, on the fake device.

    python -m pipeline.killed MOMENT STEPS_FILE ARGUMENT...

Killing from outside would hit another moment every time. Every training step is written to STEPS_FILE.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from instatune_deploy.cli import main
from instatune_deploy.devices.store import MeasurementStore
from instatune_deploy.finetune.trainer import SuperNetworkTrainer

from .fakes import FakeDevice

STEP, ROWS = 7, 5


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def install(moment: str, steps_file: str) -> None:
    from instatune_deploy.artifact.write import Draft
    from instatune_deploy.pipeline import bench

    fake = FakeDevice()
    bench.measure_graph = fake.measure_graph
    bench.Bench._evaluate = lambda *arguments: fake.accuracy(*arguments)  # type: ignore[method-assign]
    compute_loss, save_optimizer = SuperNetworkTrainer.compute_loss, SuperNetworkTrainer._save_optimizer_and_scheduler
    add = MeasurementStore.add

    def counted_loss(trainer: Any, *arguments: Any, **more: Any) -> Any:
        with open(steps_file, "a", encoding="utf-8") as stream:
            print(trainer.state.global_step, file=stream)
        return compute_loss(trainer, *arguments, **more)

    def cut_checkpoint(trainer: Any, folder: str) -> None:
        if moment == "a checkpoint" and trainer.state.global_step == STEP:
            die()
        save_optimizer(trainer, folder)

    def counted_add(store: MeasurementStore, measurement: Any, again: bool = False) -> bool:
        added = add(store, measurement, again)
        if moment == "the profile" and len(store.select(believed=None)) == ROWS:
            die()
        return added

    SuperNetworkTrainer.compute_loss = counted_loss  # type: ignore[method-assign]
    SuperNetworkTrainer._save_optimizer_and_scheduler = cut_checkpoint  # type: ignore[method-assign]
    MeasurementStore.add = counted_add  # type: ignore[method-assign]
    Draft.remeasure = lambda *_: die()  # type: ignore[assignment, method-assign, misc, return-value]


if __name__ == "__main__":
    install(sys.argv[1], sys.argv[2])
    main(sys.argv[3:])
