"""A pass: many architectures measured as the profiler does it, in measuring processes of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from scipy.stats import kendalltau

from benchmarks.profile.setup import Subject
from instatune_deploy.devices.deployment import Measurement
from instatune_deploy.devices.measure import Laboratory, measure_graph
from instatune_deploy.devices.profile import Device
from instatune_deploy.devices.runs import Run
from instatune_deploy.devices.store import MeasurementStore
from instatune_deploy.graphs.carve import carve_shared
from instatune_deploy.graphs.carved import Carved
from instatune_deploy.graphs.template import Template
from instatune_deploy.supernet.architecture import Architecture


@dataclass(frozen=True)
class Pass:
    """Measurements in the order of the architectures, and how long the pass took without what is done once."""

    measurements: list[Measurement]
    seconds: float
    timed_seconds: float

    def figures(self, statistic: str = "p90") -> list[float | None]:
        """Latencies in ms; None where one is not believed."""
        return [item.timing.statistic_ms(statistic) if item.timing and item.believed else None for item in self.measurements]

    def raw(self, statistic: str = "p90") -> list[float | None]:
        """The same as the clock gave them, on no nominal scale."""
        return [
            item.timing.statistic_ms(statistic) * item.timing.drift if item.timing and item.believed else None
            for item in self.measurements
        ]


@dataclass(frozen=True)
class Graphs:
    """The graphs of one way of running, from a template as the pipeline keeps it."""

    template: Template

    @classmethod
    def of(cls, made: Subject, run: Run, folder: Path) -> Graphs:
        """``folder``: where the template is written and mapped from."""
        name = f"{run.runtime}-{run.precision}"
        if not (folder / f"{name}.json").exists():
            folder.mkdir(parents=True, exist_ok=True)
            made.template(run.runtime, run.precision).save(folder, name)
        return cls(Template.load(folder, name))

    def carve(self, architecture: Architecture) -> Carved:
        """One architecture's graph."""
        return carve_shared(self.template, architecture)


def measured(
    made: Subject,
    graphs: Graphs,
    architectures: Sequence[Architecture],
    device: Device,
    run: Run,
    store: MeasurementStore,
    tell: Callable[[str], None],
) -> Pass:
    """Every architecture once, in a fresh measuring process. The store gives and keeps the host's nominal speed."""
    with closing(Laboratory(store)) as laboratory:
        laboratory.nominal_ms(run, device)
        folder = laboratory.process(run).scratch
        start = time.perf_counter()
        measurements = []
        for architecture in architectures:
            carved = graphs.carve(architecture)
            path = folder / "graph.onnx"
            carved.put(path)
            deployment = device.deployment(architecture, run)
            measurements.append(measure_graph(path, deployment, device, "benchmark", carved.size_bytes, made.example, laboratory))
        took = time.perf_counter() - start
    lost = sum(not item.believed for item in measurements)
    tell(f"{run}: {len(measurements)} in {took:.0f} s, {lost} not believed")
    timed = sum(item.timing.timed_seconds * item.circumstances["attempts"] for item in measurements if item.timing)
    return Pass(measurements, took, timed)


def together(first: Sequence[float | None], second: Sequence[float | None]) -> list[tuple[float, float]]:
    """Pairs of which both were believed."""
    return [(one, other) for one, other in zip(first, second, strict=True) if one is not None and other is not None]


def tau(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Kendall's rank correlation; None with fewer than three pairs."""
    return float(kendalltau(*zip(*pairs, strict=True)).statistic) if len(pairs) > 2 else None
