"""How many architectures are measured in a minute, and how much of that minute is timing.

``python -m benchmarks.profile.throughput``; let nothing else run meanwhile.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click

from benchmarks.profile.passes import Graphs, Pass, measured
from benchmarks.profile.setup import device, subject
from benchmarks.results import FOLDER, markdown, write_result
from instatune_deploy.devices.store import MeasurementStore


@click.command()
@click.option("--quick", is_flag=True, help="A smoke run on two architectures; its figures mean nothing.")
@click.option("--architectures", default=20, show_default=True, help="How many, spread over MACs.")
@click.option("--seeds", "seed", default=0, show_default=True, help="Which ones.")
@click.option("--device", "name", default="xeon-cpu", show_default=True, help="Hardware profile.")
@click.option("--results", default=FOLDER, type=click.Path(path_type=Path), help="Where the JSON is written.")
def main(quick: bool, architectures: int, seed: int, name: str, results: Path) -> None:
    """Measure architectures in every run of a profile, from architecture to figures."""
    made, here = subject(), device(name)
    wanted = made.architectures(2 if quick else architectures, seed)
    passes: dict[str, Pass] = {}
    with tempfile.TemporaryDirectory() as scratch, MeasurementStore(Path(scratch) / "store.sqlite") as store:
        for run in here.runs[:1] if quick else here.runs:
            graphs = Graphs.of(made, run, Path(scratch) / "templates")
            passes[str(run)] = measured(made, graphs, wanted, here, run, store, lambda text: click.echo(text, err=True))
    rows = [_row(run, found) for run, found in passes.items()]
    seconds, timed = sum(found.seconds for found in passes.values()), sum(found.timed_seconds for found in passes.values())
    count = sum(len(found.measurements) for found in passes.values())
    click.echo(markdown(rows))
    write_result(
        "profile-throughput",
        {"quick": quick, "architectures": len(wanted), "seed": seed, "device": name},
        rows,
        {"timing_share": round(timed / seconds, 3), "measurements_per_minute": round(60 * count / seconds, 1)},
        results,
    )


def _row(run: str, found: Pass) -> dict[str, Any]:
    count = len(found.measurements)
    return {
        "run": run,
        "measured": count,
        "not believed": sum(not item.believed for item in found.measurements),
        "share of timing": f"{found.timed_seconds / found.seconds:.0%}",
        "measurements a minute": round(60 * count / found.seconds, 1),
    }


if __name__ == "__main__":
    main()
