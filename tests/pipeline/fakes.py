"""A job on the tiny checkpoint, and a device whose latencies (and accuracies) follow from a network's size alone.

What is tested is the flow: neither this machine's rest nor what a few steps of training happen to learn.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from instatune_deploy.budget import parse_budgets
from instatune_deploy.config import TimingSettings
from instatune_deploy.devices.deployment import Deployment, Measurement
from instatune_deploy.devices.host import this_host
from instatune_deploy.devices.latency import Limits, Timing
from instatune_deploy.devices.profile import Device
from instatune_deploy.devices.runs import Run
from instatune_deploy.devices.runtimes.registry import version
from instatune_deploy.pipeline.handover import Handover
from instatune_deploy.pipeline.job import Job
from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.terminal import Terminal

PIPELINE = """\
task: text-classification
model:
  reference: {model}
data:
  reference: {data}
  split: {{test: 20, validation: 20}}
  max_length: 24
finetune:
  max_steps: {steps}
  batch_size: 16
  learning_rate: 1e-3
  importance_rows: 32
  checkpoint_steps: {checkpoint_steps}
search:
  initial: 8
  per_round: 4
  rounds: 2
  population: 20
  generations: 10
"""
PROFILE = """\
name: {name}
description: A device of the tests.
runs:
  - runtime: onnxruntime
  - runtime: openvino
threads: 1
sequence_length: 24
# short, and content with any three windows
timing: {{window_ms: 1, min_runs_per_window: 3, max_warmup_windows: 2, max_windows: 10, tolerance: 0.99}}
"""
UPPER = 1.02
"""The upper confidence limit of every percentile, as a multiple of it."""


def write_pipeline(folder: Path, model: Path, data: Path, *, steps: int = 20, checkpoint_steps: int = 100) -> Path:
    """A pipeline file on the tiny checkpoint."""
    path = folder / "tiny.yaml"
    path.write_text(PIPELINE.format(model=model, data=data, steps=steps, checkpoint_steps=checkpoint_steps), encoding="utf-8")
    return path


def write_profile(folder: Path, name: str = "tiny-cpu", more: str = "") -> Path:
    """A hardware profile with two runs and one thread, which every host serves. more: lines of it"""
    path = folder / f"{name}.yaml"
    path.write_text(PROFILE.format(name=name) + more, encoding="utf-8")
    return path


def latency_of(architecture: Architecture, runtime: str) -> float:
    """Milliseconds (p90): a base, and something per layer, head and neuron; OpenVINO takes 0.8 of it, images of less than 12 px
    in proportion less.

    The tiny full network (4 layers, 4 heads, MLP 64): 1 + 2 + 1.6 + 2.56 = 7.16 ms.
    """
    took = 1 + 0.5 * architecture.depth + 0.1 * sum(architecture.heads) + 0.01 * sum(architecture.mlp_widths)
    took *= 1.0 if architecture.image_size is None else architecture.image_size / 12
    return took * (0.8 if runtime == "openvino" else 1.0)


def memory_of(deployment: Deployment) -> int:
    """Bytes: the runtime's own, and something for every neuron. The tiny full network (256 neurons): 125.6 MB in OpenVINO."""
    own = 100_000_000 if deployment.runtime == "openvino" else 60_000_000
    return own + 100_000 * sum(deployment.architecture.mlp_widths)


def accuracy_of(architecture: Architecture) -> float:
    """Between 0.5 and 0.9: every layer, head and neuron helps, each less than the one before."""
    return (
        0.5
        + 0.1 * (architecture.depth / 4) ** 0.5
        + 0.3 * ((sum(architecture.heads) + sum(architecture.mlp_widths)) / 272) ** 0.5
    )


def timing(p90_ms: float, stable: bool = True) -> Timing:
    """A timing around its p90."""
    percentiles = {"p50": 0.9 * p90_ms, "p90": p90_ms, "p99": 1.5 * p90_ms}
    limits = {name: Limits(0.98 * value, UPPER * value) for name, value in percentiles.items()}
    return Timing(*percentiles.values(), 0.92 * p90_ms, 2 * p90_ms, 0.05, 300, 3, stable, 0, limits)  # type: ignore[arg-type]


@dataclass
class FakeDevice:
    """Stands in for the timing in `measure_graph` and in the fresh process, and for the evaluation in PyTorch; remembers
    what it was asked."""

    measured: list[Deployment] = field(default_factory=list)
    evaluated: list[tuple[Architecture, Run, str]] = field(default_factory=list)
    remeasured: list[Deployment] = field(default_factory=list)
    noisy: Callable[[Deployment, str], bool] = lambda deployment, device: False
    """Which measurements are not to be believed, by deployment and device."""
    told: Callable[[Deployment], dict[str, Any]] = lambda deployment: {"peak_memory_bytes": memory_of(deployment)}
    """What the host tells besides the latency."""
    slower: Callable[[Deployment], float] = lambda deployment: 1.0
    """How much slower the finished files are than what was measured before."""

    def measure_graph(
        self,
        graph: Any,
        deployment: Deployment,
        device: Device,
        graph_hash: str,
        size_bytes: int,
        inputs: Any,
        laboratory: Any,
    ) -> Measurement:
        self.measured.append(deployment)
        took = latency_of(deployment.architecture, deployment.runtime)
        return self._made(deployment, device.name, device.timing, took, graph_hash, size_bytes)

    def accuracy(self, bench: Any, architecture: Architecture, run: Run, split: str) -> float:
        self.evaluated.append((architecture, run, split))
        return accuracy_of(architecture)

    def remeasure(self, draft: Any, device: str, settings: TimingSettings) -> Measurement:
        deployment = draft._deployment
        self.remeasured.append(deployment)
        took = latency_of(deployment.architecture, deployment.runtime) * self.slower(deployment)
        return self._made(deployment, device, settings, took, "0" * 64, 1)

    def verify_again(self, folder: Path, deployment: Deployment, device: str, settings: TimingSettings) -> Measurement:
        took = latency_of(deployment.architecture, deployment.runtime) * self.slower(deployment)
        return self._made(deployment, device, settings, took, "0" * 64, 1)

    def _made(
        self, deployment: Deployment, device: str, settings: TimingSettings, took: float, graph_hash: str, size_bytes: int
    ) -> Measurement:
        noisy = self.noisy(deployment, device)
        return Measurement(
            deployment=deployment,
            device=device,
            graph_hash=graph_hash,
            size_bytes=size_bytes,
            host=this_host().fingerprint,
            versions={deployment.runtime: version(deployment.runtime)},
            protocol=settings.model_dump(),
            timing=timing(took),
            circumstances={"attempts": 1, **self.told(deployment)},
            why="other processes used 2.0 of 2 processors while 1 thread was measured" if noisy else None,
        )


@dataclass
class Place:
    """Where a job runs: its files, its fake device, and what it said on standard error. more: lines of the profiles"""

    folder: Path
    pipeline: Path
    fake: FakeDevice
    profiles: tuple[str, ...] = ("tiny-cpu",)
    more: str = ""
    log: io.StringIO = field(default_factory=io.StringIO)

    @property
    def work(self) -> Path:
        return self.folder / "runs"

    @property
    def output(self) -> Path:
        return self.folder / "artifacts"

    @property
    def artifact(self) -> Path:
        return self.output / self.profiles[0]

    @property
    def said(self) -> str:
        return self.log.getvalue()

    def job(self, budget: str | None = None, seed: int = 0, **handover: Any) -> Job:
        """What the command line would make of the same words; what was said before is forgotten."""
        self.log.truncate(0)
        self.log.seek(0)
        devices = tuple(str(write_profile(self.folder, name, self.more)) for name in self.profiles)
        terminal = Terminal(Console(file=self.log, highlight=False, soft_wrap=True, width=200))
        limit = parse_budgets([budget]) if budget is not None else None
        return Job.of(str(self.pipeline), devices, limit, Handover(self.output, **handover), self.work, seed, terminal)
