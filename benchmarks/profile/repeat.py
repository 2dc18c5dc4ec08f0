"""The same architectures measured twice, in separate processes: how far are the two apart?

``python -m benchmarks.profile.repeat``; let nothing else run meanwhile.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.profile.passes import Graphs, Pass, measured, tau, together
from benchmarks.profile.setup import device, subject
from benchmarks.results import FOLDER, markdown, write_result
from instatune_deploy.devices.store import MeasurementStore

DEVICES = ("xeon-cpu", "generic-cpu")
PRECISIONS = {"fp32", "bf16"}
"""int8 is left out: it is the same protocol once more."""


@click.command()
@click.option("--quick", is_flag=True, help="A smoke run on four architectures and one device; its figures mean nothing.")
@click.option("--architectures", default=30, show_default=True, help="How many, spread over MACs.")
@click.option("--seeds", "seed", default=0, show_default=True, help="Which ones.")
@click.option("--results", default=FOLDER, type=click.Path(path_type=Path), help="Where the JSON is written.")
def main(quick: bool, architectures: int, seed: int, results: Path) -> None:
    """Measure all twice and compare."""
    made = subject()
    wanted = made.architectures(4 if quick else architectures, seed)
    passes: dict[tuple[str, str], list[Pass]] = {}
    with tempfile.TemporaryDirectory() as scratch, MeasurementStore(Path(scratch) / "store.sqlite") as store:
        for _ in range(2):
            for name in DEVICES[1:] if quick else DEVICES:
                here = device(name)
                for run in here.runs:
                    if run.precision in PRECISIONS:
                        graphs = Graphs.of(made, run, Path(scratch) / "templates")
                        found = measured(made, graphs, wanted, here, run, store, lambda text: click.echo(text, err=True))
                        passes.setdefault((name, str(run)), []).append(found)
    rows = [_row(name, run, *pair) for (name, run), pair in passes.items()]
    differences = [
        difference
        for first, second in passes.values()
        for difference in _differences(together(first.figures(), second.figures()))
    ]
    taus = [value for first, second in passes.values() if (value := tau(together(first.figures(), second.figures()))) is not None]
    click.echo(markdown(rows))
    write_result(
        "profile-repeat",
        {"quick": quick, "architectures": len(wanted), "seed": seed, "statistic": "p90"},
        rows,
        {
            "median_relative_difference": round(float(np.median(differences)), 4) if differences else None,
            "p90_relative_difference": round(float(np.quantile(differences, 0.9)), 4) if differences else None,
            "kendall_tau": round(statistics.median(taus), 4) if taus else None,
            "lowest_kendall_tau": round(min(taus), 4) if taus else None,
            **({} if differences else {"why": "nothing was believed: the host is too busy"}),
        },
        results,
    )


def _differences(pairs: list[tuple[float, float]]) -> list[float]:
    return [abs(one - other) / min(one, other) for one, other in pairs]


def _row(name: str, run: str, first: Pass, second: Pass) -> dict[str, Any]:
    pairs, raw = together(first.figures(), second.figures()), together(first.raw(), second.raw())
    agreement = tau(pairs)
    return {
        "device": name,
        "run": run,
        "both believed": f"{len(pairs)} of {len(first.measurements)}",
        "median difference": _percent(pairs, 0.5),
        "90% of differences below": _percent(pairs, 0.9),
        "without the reference": " / ".join([_percent(raw, 0.5), _percent(raw, 0.9)]),
        "Kendall tau": None if agreement is None else round(agreement, 3),
    }


def _percent(pairs: list[tuple[float, float]], share: float) -> str:
    return f"{np.quantile(_differences(pairs), share):.1%}" if pairs else "-"


if __name__ == "__main__":
    main()
