"""The full fp32 model in ONNX Runtime, beside the fastest artifact that loses at most one point of accuracy.

The artifact is what the command hands over for ``--budget accuracy:X``, X being the full model's accuracy on the validation rows
less one point. Both are then measured in turns, each time in a fresh process, with as many threads as the profile says. Let
nothing else run meanwhile. ``python -m benchmarks.artifact.speedup``
"""

from __future__ import annotations

import statistics
import subprocess
import sys
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
POINT = 0.01
FULL, OURS = "the full model, fp32, ONNX Runtime", "the artifact"


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
        least = f"accuracy:{accuracy['validation'] - POINT:.4f}"
        command = [sys.executable, "-m", "instatune_deploy", "--pipeline", pipeline, "--device", device, "--budget", least]
        subprocess.run([*command, "--work", str(runs), "--output", str(work / "artifacts")], check=True)
        artifact = work / "artifacts" / device
        manifest = read_manifest(artifact)
        files = GRAPH_FILES[full_run.runtime]
        (work / "full").mkdir(exist_ok=True)
        write_graph(bench.finished_graph(full, full_run), full_run.runtime, full_run.precision, work / "full")
        graph, full_bytes = files.path(work / "full"), files.size_bytes(work / "full")
        took: dict[str, list[float]] = {FULL: [], OURS: []}
        ours = GRAPH_FILES[manifest.runtime].path(artifact)
        for _ in range(rounds):
            for name, path, run in ((FULL, graph, full_run), (OURS, ours, manifest.deployment.run)):
                with MeasuringProcess(work) as process:
                    outcome = process.measure(path, bench.example, run, here.timing, None)
                if outcome.timing is not None and outcome.why is None:
                    took[name].append(outcome.timing.statistic_ms(here.statistic))
    for name, found in took.items():
        if not found:
            raise click.ClickException(f"{name}: never believed; the host is too busy")
    medians = {name: statistics.median(found) for name, found in took.items()}
    of_ours = {"validation": manifest.accuracy.validation, "test": manifest.accuracy.test or float("nan")}
    rows = [
        _row(FULL, str(full), str(full_run), took[FULL], accuracy, full_bytes),
        _row(OURS, str(manifest.architecture), str(manifest.deployment.run), took[OURS], of_ours, manifest.size_bytes),
    ]
    click.echo(markdown(rows))
    summary = {
        "full_fp32_onnxruntime_ms": round(medians[FULL], 3),
        "artifact_ms": round(medians[OURS], 3),
        "ratio": round(medians[FULL] / medians[OURS], 2),
        "accuracy_lost_points": round(100 * (accuracy["test"] - of_ours["test"]), 2),
        "validation_points_lost": round(100 * (accuracy["validation"] - of_ours["validation"]), 2),
    }
    settings_told = {"quick": quick, "rounds": rounds, "device": device, "budget": least, "statistic": here.statistic}
    write_result("artifact-speedup", settings_told, rows, summary, results)


def _row(name: str, network: str, run: str, took: list[float], accuracy: dict[str, float], size_bytes: int) -> dict[str, Any]:
    return {
        "what": name,
        "network": network,
        "run": run,
        "p90 ms (median)": round(statistics.median(took), 2),
        "rounds": f"{min(took):.2f} - {max(took):.2f}",
        "validation": f"{accuracy['validation']:.2%}",
        "test": f"{accuracy['test']:.2%}",
        "MB": round(size_bytes / 1e6, 1),
    }


if __name__ == "__main__":
    main()
