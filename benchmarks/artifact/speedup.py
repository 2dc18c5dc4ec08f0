"""The full fp32 model in ONNX Runtime, beside the fastest artifacts that lose at most a point of accuracy, a quarter, and none.

The artifacts are what the command hands over for ``--budget accuracy:X``, X being the full model's accuracy on the validation
rows, less so much. All are then measured in turns, each time in a fresh process, with as many threads as the
profile says. What is lost is counted on the test rows, which chose nothing. Let nothing else run meanwhile.
``python -m benchmarks.artifact.speedup``
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from benchmarks.artifact.setup import opened_bench
from benchmarks.main.job import pipeline_file
from benchmarks.results import FOLDER, REPOSITORY, markdown, write_result
from instatune_deploy.artifact.graph_files import GRAPH_FILES, write_graph
from instatune_deploy.artifact.manifest import read_manifest
from instatune_deploy.devices.host import this_host
from instatune_deploy.devices.process import MeasuringProcess
from instatune_deploy.devices.profile import load_profile, resolve
from instatune_deploy.devices.runs import Run

WORK = REPOSITORY / "runs" / "benchmarks" / "speedup"
POINTS = (1.0, 0.25, 0.0)
"""What an artifact may lose of the validation accuracy, in points."""
MOST_LOST = 1.0
"""Of the test accuracy, by the one that the summary is of; in points."""
FULL = "the full model, fp32, ONNX Runtime"


@dataclass
class Side:
    """What is measured; ``took``: p90 of each round, ms"""

    name: str
    network: str
    run: Run
    path: Path
    accuracy: dict[str, float]
    size_bytes: int
    took: list[float] = field(default_factory=list)

    @property
    def median_ms(self) -> float:
        """Of all rounds."""
        return statistics.median(self.took)

    def row(self) -> dict[str, Any]:
        """For the table."""
        return {
            "what": self.name,
            "network": self.network,
            "run": str(self.run),
            "p90 ms (median)": round(self.median_ms, 2),
            "rounds": f"{min(self.took):.2f} - {max(self.took):.2f}",
            "validation": f"{self.accuracy['validation']:.2%}",
            "test": f"{self.accuracy['test']:.2%}",
            "MB": round(self.size_bytes / 1e6, 1),
        }


@click.command(help=__doc__)
@click.option("--quick", is_flag=True, help="A smoke run: a network hardly trained, two rounds; its figures mean nothing.")
@click.option("--rounds", default=5, show_default=True, help="How often both are measured.")
@click.option("--device", default="xeon-cpu", show_default=True, help="Hardware profile.")
@click.option("--work", default=WORK, type=click.Path(path_type=Path), show_default=True, help="What is kept for the next time.")
@click.option("--results", default=FOLDER, type=click.Path(path_type=Path), help="Where the JSON is written.")
def main(quick: bool, rounds: int, device: str, work: Path, results: Path) -> None:
    """Build, then measure in turns."""
    work.mkdir(parents=True, exist_ok=True)
    device, rounds = ("generic-cpu", 1) if quick else (device, rounds)
    pipeline, runs = pipeline_file(work, quick), work / "runs"
    here = resolve(load_profile(device), this_host())
    threads = here.runs[0].threads
    full_run = Run("onnxruntime", "fp32", threads)
    with opened_bench(pipeline, here, runs) as bench:
        full = bench.supernet.space.largest()
        accuracy = {split: bench.accuracy(full, full_run, split) for split in ("validation", "test")}
        files = GRAPH_FILES[full_run.runtime]
        (work / "full").mkdir(exist_ok=True)
        write_graph(bench.finished_graph(full, full_run), full_run.runtime, full_run.precision, work / "full")
        whole = Side(FULL, str(full), full_run, files.path(work / "full"), accuracy, files.size_bytes(work / "full"))
        command = [sys.executable, "-m", "instatune_deploy", "--pipeline", pipeline, "--device", device, "--work", str(runs)]
        ours = [artifact(command, work, device, accuracy["validation"], points) for points in (POINTS[:1] if quick else POINTS)]
        for _ in range(rounds):
            for side in (whole, *ours):
                with MeasuringProcess(work) as process:
                    outcome = process.measure(side.path, bench.example(full), side.run, here.timing, None)
                if outcome.timing is not None and outcome.why is None:
                    side.took.append(outcome.timing.statistic_ms(here.statistic))
    for side in (whole, *ours):
        if not side.took:
            raise click.ClickException(f"{side.name}: never believed; the host is too busy")
    rows = [side.row() for side in (whole, *ours)]
    click.echo(markdown(rows))
    settings = {"quick": quick, "rounds": rounds, "device": device, "statistic": here.statistic}
    write_result("artifact-speedup", settings, rows, summarised(whole, ours), results)


def artifact(command: list[str], work: Path, device: str, full: float, points: float) -> Side:
    """What the command hands over when it may lose so much. full: the full model's validation accuracy, 0 to 1"""
    output = work / f"artifacts-{points:g}"
    budget = f"accuracy:{full - points / 100:.4f}"
    subprocess.run([*command, "--budget", budget, "--output", str(output)], check=True)
    manifest = read_manifest(output / device)
    return Side(
        name=f"artifact, --budget {budget}",
        network=str(manifest.architecture),
        run=manifest.deployment.run,
        path=GRAPH_FILES[manifest.runtime].path(output / device),
        accuracy={"validation": manifest.accuracy.validation, "test": manifest.accuracy.test or float("nan")},
        size_bytes=manifest.size_bytes,
    )


def summarised(whole: Side, ours: Sequence[Side]) -> dict[str, Any]:
    """Of the fastest artifact that loses at most a point of the test rows; of the most accurate where every one loses more."""

    def lost(side: Side, split: str) -> float:
        return round(100 * (whole.accuracy[split] - side.accuracy[split]), 2)

    close = [side for side in ours if lost(side, "test") <= MOST_LOST]
    best = min(close, key=lambda side: side.median_ms) if close else min(ours, key=lambda side: lost(side, "test"))
    return {
        "full_fp32_onnxruntime_ms": round(whole.median_ms, 3),
        "artifact_ms": round(best.median_ms, 3),
        "ratio": round(whole.median_ms / best.median_ms, 2),
        "accuracy_lost_points": lost(best, "test"),
        "validation_points_lost": lost(best, "validation"),
        "ratio_by_validation_points_allowed": {
            f"{points:g}": round(whole.median_ms / side.median_ms, 2) for points, side in zip(POINTS, ours, strict=False)
        },
    }


if __name__ == "__main__":
    main()
