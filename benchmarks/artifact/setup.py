"""What the artifact's benchmarks start from: a pipeline's super-network on a device of this host."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from instatune_deploy.devices.measure import Laboratory
from instatune_deploy.devices.profile import Device
from instatune_deploy.devices.store import open_store
from instatune_deploy.pipeline.bench import Bench
from instatune_deploy.pipeline.inputs import load_inputs, load_pipeline
from instatune_deploy.pipeline.supernet import finetune_stage
from instatune_deploy.terminal import Terminal


@contextmanager
def opened_bench(pipeline: str, device: Device, folder: Path) -> Iterator[Bench]:
    """Trained when it is not in ``folder`` yet; what is measured is kept there. The device has inputs of the task's size."""
    folder.mkdir(parents=True, exist_ok=True)
    inputs = load_inputs(load_pipeline(pipeline))
    with open_store(folder, None, create=True) as store, closing(Laboratory(store, scratch=folder)) as laboratory:
        yield Bench(inputs, finetune_stage(inputs, folder, 0, Terminal()), inputs.on(device), laboratory)
