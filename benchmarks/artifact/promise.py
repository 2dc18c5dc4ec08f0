"""Do artifacts keep what they promise? Ten budgets on each of three profiles, measured anew in fresh processes.

The budgets lie evenly (on a logarithmic scale) between what the smallest and the full network take. The artifacts are built as a
CI job builds them, by one matrix file; what was built before is reused. Let nothing else run meanwhile.
``python -m benchmarks.artifact.promise``
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import yaml

from benchmarks.artifact.setup import opened_bench
from benchmarks.families import Family, family_option
from benchmarks.main.job import pipeline_file
from benchmarks.results import FOLDER, markdown, write_result
from instatune_deploy.artifact.manifest import Manifest, read_manifest
from instatune_deploy.artifact.remeasure import remeasure
from instatune_deploy.cli import ClearErrors
from instatune_deploy.devices.host import this_host
from instatune_deploy.devices.profile import load_profile, resolve
from instatune_deploy.files import read_json

PROFILES = ("xeon-cpu", "generic-cpu", "laptop-cpu")
ABOVE_SMALLEST = 1.3
PASSES = 3
"""A latency that cannot be believed is measured so often."""


@click.command(cls=ClearErrors, help=__doc__)
@click.option("--quick", is_flag=True, help="A smoke run: one budget on one profile of a network hardly trained.")
@click.option("--budgets", default=10, show_default=True, help="On each profile.")
@click.option("--profile", "profiles", multiple=True, default=PROFILES, show_default=True, help="Hardware profiles.")
@click.option("--work", type=click.Path(path_type=Path), help="What is kept for the next time; below runs/ when not given.")
@click.option("--results", default=FOLDER, type=click.Path(path_type=Path), help="Where the JSON is written.")
@family_option
def main(quick: bool, budgets: int, profiles: tuple[str, ...], work: Path | None, results: Path, family: Family) -> None:
    """Build and measure."""
    work = work or family.work("promise")
    budgets, profiles, work = (1, ("generic-cpu",), work / "quick") if quick else (budgets, profiles, work)
    work.mkdir(parents=True, exist_ok=True)
    matrix = work / "matrix.yaml"
    if not matrix.is_file():
        pipeline = pipeline_file(work, quick, family)
        targets = [target for name in profiles for target in targets_of(name, spread(*ends(pipeline, name, work), budgets))]
        matrix.write_text(yaml.safe_dump({"pipeline": pipeline, "targets": targets}), encoding="utf-8")
    command = [sys.executable, "-m", "instatune_deploy", "--pipeline", str(matrix), "--work", str(work)]
    subprocess.run([*command, "--output", str(work / "artifacts")], check=False)  # the summary says what failed
    built = {build["name"]: build for build in read_json(work / "artifacts" / "summary.json")["builds"]}
    rows = [row(work / "artifacts" / name, build) for name, build in built.items()]
    click.echo(markdown(rows))
    write_result(
        family.result("artifact-promise"),
        {"quick": quick, "budgets": budgets, "profiles": list(profiles)},
        rows,
        summarised(rows),
        results,
    )


def ends(pipeline: str, profile: str, work: Path) -> tuple[float, float]:
    """What the smallest and the full network take in the way of running that suits each best, ms."""
    device = resolve(load_profile(profile), this_host())
    with opened_bench(pipeline, device, work) as bench:
        space = bench.supernet.space
        found = []
        for architecture in (space.smallest(), space.largest()):
            timings = [bench.latency(architecture, run).timing for run in device.runs]
            found.append(min(timing.statistic_ms(device.statistic) for timing in timings if timing is not None))
    return found[0], found[1]


def spread(smallest_ms: float, full_ms: float, count: int) -> list[str]:
    """Budgets between a little more than the smallest network takes and what the full one takes, as a user writes them."""
    least = ABOVE_SMALLEST * smallest_ms
    return [f"{limit_ms:.2f}ms" for limit_ms in np.geomspace(least, max(full_ms, least), count)]


def targets_of(profile: str, budgets: Sequence[str]) -> list[dict[str, Any]]:
    """Of a matrix file."""
    return [{"device": profile, "budget": budget, "name": f"{profile}-{number}"} for number, budget in enumerate(budgets, 1)]


def row(folder: Path, build: dict[str, Any]) -> dict[str, Any]:
    """One artifact: its promise, and what a fresh process measures now."""
    shown = {"profile": build["device"], "budget": build["budget"]}
    if build["exit_code"]:
        why = build["message"].splitlines()[0]
        return {**shown, "run": why, "test accuracy": None, "promised ms": None, "anew ms": None, "off": None, "kept": "no"}
    manifest = read_manifest(folder)
    assert manifest.budget is not None
    assert manifest.budget.limit_ms is not None
    promised, found = manifest.promised_ms(manifest.budget.statistic), anew(folder, manifest)
    return {
        **shown,
        "run": str(manifest.deployment.run),
        "test accuracy": None if manifest.accuracy.test is None else f"{manifest.accuracy.test:.1%}",
        "promised ms": round(promised, 3),
        "anew ms": None if found is None else round(found, 3),
        "off": None if found is None else f"{found / promised - 1:+.1%}",
        "kept": "not believed" if found is None else "yes" if found <= manifest.budget.limit_ms else "no",
    }


def anew(folder: Path, manifest: Manifest) -> float | None:
    """The budget's statistic, ms; None when it was never believed."""
    assert manifest.budget is not None
    for _ in range(PASSES):
        measured = remeasure(folder, manifest.deployment, manifest.device, manifest.timing)
        if measured.timing is not None and measured.believed:
            return measured.timing.statistic_ms(manifest.budget.statistic)
    return None


def summarised(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of those that were built; an error is how far the promise and what was measured anew are apart, as a share."""
    off = [abs(found["anew ms"] / found["promised ms"] - 1) for found in rows if found["anew ms"] is not None]
    kept = sum(found["kept"] == "yes" for found in rows)
    return {
        "kept": kept,
        "of": len(rows),
        "max_relative_error": round(max(off), 4) if off else None,
        "median_relative_error": round(float(np.median(off)), 4) if off else None,
        "within_5_percent": sum(error <= 0.05 for error in off),
        **({} if off else {"why": "nothing was built, or nothing was believed"}),
    }


if __name__ == "__main__":
    main()
