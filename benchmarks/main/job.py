"""The main job: the default pipeline from nothing, then another device and another budget on the same super-network.

Every job is the command a user types, in a process of its own. ``python -m benchmarks.main.job [--quick] [--seeds N]``
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import yaml

from benchmarks.families import TEXT, Family
from benchmarks.finetune.subjects import pipeline
from benchmarks.results import FOLDER, markdown, write_result
from instatune_deploy.artifact.manifest import read_manifest
from instatune_deploy.artifact.remeasure import remeasure
from instatune_deploy.files import read_json

JOBS = (
    ("first device", "xeon-cpu", "20ms"),
    ("another budget", "xeon-cpu", "3ms"),
    ("another device", "generic-cpu", "10ms"),
)
STAGES = {
    "model": "load",
    "super-network": "finetune",
    "device": "profile",
    "profile": "profile",
    "search": "search",
    "the full model": "search",
    "export": "export",
}
"""How the lines that announce a stage begin, and the stage they are counted to."""
QUICK = {"initial": 8, "rounds": 1, "per_round": 2, "generations": 5}
"""The search of a smoke run."""


@dataclass(frozen=True)
class JobRun:
    """One command: how long, stage by stage, and what it left behind."""

    seconds: float
    stages: dict[str, float]
    artifact: Path
    table: str
    """What it printed for a person, down to the artifact's path."""


@click.command()
@click.option("--quick", is_flag=True, help="A smoke run: a few steps, a few measurements; its figures mean nothing.")
@click.option("--seeds", default=1, show_default=True, help="Repeat the whole with this many seeds.")
@click.option("--again", default=5, show_default=True, help="Measure each artifact this often again, in fresh processes.")
@click.option("--results", default=FOLDER, type=click.Path(path_type=Path), help="Where the JSON is written.")
def main(quick: bool, seeds: int, again: int, results: Path) -> None:
    """Time the main job and re-measure what it promised."""
    rows: list[dict[str, Any]] = []
    runs: dict[str, list[JobRun]] = {label: [] for label, _, _ in JOBS}
    quality: list[dict[str, Any]] = []
    promises: list[dict[str, Any]] = []
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            pipeline = pipeline_file(folder, quick)
            for label, device, budget in JOBS:
                run = _run(folder, pipeline, device, budget, seed, label)
                runs[label].append(run)
                promise = _promise(run.artifact, again)
                promises.append(promise)
                rows.append(_row(label, device, budget, run, promise))
                click.echo(f"{label}: {run.seconds:.0f} s", err=True)
            quality += _quality(folder / "runs" / "searches")
    click.echo(markdown(rows))
    click.echo()
    click.echo(markdown(quality))
    write_result(
        "main-job",
        {"quick": quick, "seeds": seeds, "again": again, "jobs": [list(job) for job in JOBS]},
        rows,
        {
            "stage_seconds": _median_stages(runs["first device"]),
            "total_seconds": statistics.median(run.seconds for run in runs["first device"]),
            "next_device_seconds": statistics.median(run.seconds for run in runs["another device"]),
            "next_budget_seconds": statistics.median(run.seconds for run in runs["another budget"]),
            "promised_ms": [promise["promised"] for promise in promises],
            "remeasured_ms": [promise["again"] for promise in promises],
            "predictors": quality,
            "table": runs["another budget"][0].table,
        },
        results,
    )


def pipeline_file(folder: Path, quick: bool, family: Family = TEXT) -> str:
    """The shipped pipeline, or in a smoke run a small one of the family's tiny model and data."""
    if not quick:
        family.settings()  # says what is not there
        return family.pipeline
    value = pipeline(family.tiny, {}, folder).model_dump(mode="json", exclude_unset=True)
    value["search"] = QUICK
    path = folder / "quick.yaml"
    path.write_text(yaml.safe_dump(value), encoding="utf-8")
    return str(path)


def _run(folder: Path, pipeline: str, device: str, budget: str, seed: int, label: str) -> JobRun:
    output = folder / "artifacts" / label.replace(" ", "-")
    command = [sys.executable, "-m", "instatune_deploy", "--pipeline", pipeline, "--device", device, "--budget", budget]
    command += ["--work", str(folder / "runs"), "--output", str(output), "--seed", str(seed)]
    stages: dict[str, float] = {}
    stage, lines = "start", []
    start = since = time.monotonic()
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        for line in process.stderr:
            lines.append(line)
            now = time.monotonic()
            if line.startswith("» "):
                stages[stage] = stages.get(stage, 0.0) + now - since
                stage, since = _stage(line[2:]), now
        printed = process.stdout.read()  # a few lines, which fit the pipe
    end = time.monotonic()
    stages[stage] = stages.get(stage, 0.0) + end - since
    if process.returncode:
        raise click.ClickException(f"{' '.join(command)} ended with {process.returncode}:\n{''.join(lines[-5:])}")
    table = printed.partition("\nbudget")[0]
    return JobRun(end - start, stages, output / device, "\n".join(line.rstrip() for line in table.splitlines() if line.strip()))


def _stage(line: str) -> str:
    return next(stage for beginning, stage in STAGES.items() if line.startswith(beginning))


def _promise(artifact: Path, again: int) -> dict[str, Any]:
    """What the manifest says, and what fresh processes measure: milliseconds of the budget's statistic."""
    manifest = read_manifest(artifact)
    assert manifest.budget is not None
    statistic = manifest.budget.statistic
    measured = [remeasure(artifact, manifest.deployment, manifest.device, manifest.timing) for _ in range(again)]
    found = [item.timing.statistic_ms(statistic) for item in measured if item.timing is not None and item.believed]
    return {
        "promised": manifest.latency_ms.statistic_ms(statistic),
        "again": statistics.median(found) if found else None,
        "worst": max(found) if found else None,
        "believed": len(found),
    }


def _row(label: str, device: str, budget: str, run: JobRun, promise: dict[str, Any]) -> dict[str, Any]:
    manifest = read_manifest(run.artifact)
    return {
        "job": label,
        "device": device,
        "budget": budget,
        "seconds": round(run.seconds),
        "network": str(manifest.architecture),
        "run": f"{manifest.runtime} {manifest.precision}",
        "promised ms": round(promise["promised"], 2),
        "measured again ms": promise["again"] and round(promise["again"], 2),
        "test accuracy": f"{manifest.accuracy.test:.1%}" if manifest.accuracy.test is not None else "",
        "full model ms": round(manifest.baseline.latency_ms, 2),
    }


def _quality(searches: Path) -> list[dict[str, Any]]:
    """Held-out quality of every search's predictors, from what the jobs kept."""
    rows = []
    for path in sorted(searches.glob("*/search.json")):
        value = read_json(path)
        for run, quality in value["latency_quality"].items():
            rows.append(
                {
                    "device": value["device"],
                    "budget": value["budget"],
                    "predictor": f"latency, {run}",
                    "held-out MAPE": f"{quality['mape']:.1%}",
                    "Kendall tau": round(quality["tau"], 2),
                    "measurements": quality["count"],
                    "measurement noise": f"{value['noise']:.1%}",
                }
            )
    return rows


def _median_stages(runs: list[JobRun]) -> dict[str, float]:
    names = list(dict.fromkeys(name for run in runs for name in run.stages))
    return {name: round(statistics.median(run.stages.get(name, 0.0) for run in runs), 1) for name in names}


if __name__ == "__main__":
    main()
