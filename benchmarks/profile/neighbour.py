"""The same architectures measured while another process computes on one core: is the order still right?

``python -m benchmarks.profile.neighbour``; let nothing else run meanwhile. Beside it, what a plain loop would say.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.profile import plain_loop
from benchmarks.profile.passes import Graphs, measured, tau, together
from benchmarks.profile.setup import Subject, device, subject
from benchmarks.results import FOLDER, markdown, write_result
from instatune_deploy.devices.host import this_host
from instatune_deploy.devices.store import MeasurementStore
from instatune_deploy.supernet.architecture import Architecture

BUSY = "while True: pass"


@click.command()
@click.option("--quick", is_flag=True, help="A smoke run on four architectures; its figures mean nothing.")
@click.option("--architectures", default=30, show_default=True, help="How many, spread over MACs.")
@click.option("--seeds", "seed", default=0, show_default=True, help="Which ones.")
@click.option("--results", default=FOLDER, type=click.Path(path_type=Path), help="Where the JSON is written.")
def main(quick: bool, architectures: int, seed: int, results: Path) -> None:
    """Measure quietly, then with a neighbour, on one thread and on every core."""
    made = subject()
    count = 4 if quick else architectures
    rows = [_compared(made, made.architectures(count, seed), 1)]
    if this_host().cores > 1:
        # with every core taken there is nothing left to measure on: a few are enough to see what is said
        rows.append(_compared(made, made.architectures(min(count, 10), seed), this_host().cores))
    click.echo(markdown(rows))
    write_result(
        "profile-neighbour",
        {"quick": quick, "architectures": count, "seed": seed, "run": "onnxruntime fp32"},
        rows,
        {
            "kendall_tau": rows[0]["Kendall tau"],
            "refused": rows[-1]["refused"] == "yes",
            "plain_loop_kendall_tau": rows[0]["plain loop: Kendall tau"],
            "median_relative_error": rows[0]["median error"],
            "plain_loop_median_relative_error": rows[0]["plain loop: median error"],
            "plain_loop_kendall_tau_every_core": rows[-1]["plain loop: Kendall tau"],
        },
        results,
    )


def _compared(made: Subject, wanted: Sequence[Architecture], threads: int) -> dict[str, Any]:
    here = device("generic-cpu", threads)
    run = next(run for run in here.runs if (run.runtime, run.precision) == ("onnxruntime", "fp32"))
    with tempfile.TemporaryDirectory() as scratch, MeasurementStore(Path(scratch) / "store.sqlite") as store:
        graphs = Graphs.of(made, run, Path(scratch) / "templates")

        def tell(text: str) -> None:
            click.echo(text, err=True)

        quiet = measured(made, graphs, wanted, here, run, store, tell)
        loop = _plain(made, graphs, wanted, threads, Path(scratch))
        with neighbour():
            busy = measured(made, graphs, wanted, here, run, store, tell)
            busy_loop = _plain(made, graphs, wanted, threads, Path(scratch))
    pairs = together(quiet.figures("p50"), busy.figures("p50"))
    loops = list(zip(loop, busy_loop, strict=True))
    refused = len(pairs) < len(wanted) / 2
    return {
        "threads": threads,
        "believed": f"{len(pairs)} of {len(wanted)}",
        "refused": "yes" if refused else "no",
        "Kendall tau": None if refused else _rounded(tau(pairs)),
        "median error": None if refused else _error(pairs),
        "plain loop: Kendall tau": _rounded(tau(loops)),
        "plain loop: median error": _error(loops),
    }


@contextmanager
def neighbour() -> Iterator[None]:
    """A process that computes all the time, wherever the system puts it."""
    process = subprocess.Popen([sys.executable, "-c", BUSY])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _plain(made: Subject, graphs: Graphs, wanted: Sequence[Architecture], threads: int, folder: Path) -> list[float]:
    """Mean of a plain loop for every architecture, in a process of its own."""
    np.savez(folder / "inputs.npz", **made.example)  # type: ignore[arg-type]
    (folder / "plain").mkdir(exist_ok=True)
    found = []
    command = [sys.executable, "-m", plain_loop.__name__]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for architecture in wanted:
            graphs.carve(architecture).put(folder / "plain" / "graph.onnx")
            request = {"graph": str(folder / "plain" / "graph.onnx"), "inputs": str(folder / "inputs.npz"), "threads": threads}
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            found.append(float(process.stdout.readline()))
        process.stdin.close()
    return found


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _error(pairs: Sequence[tuple[float, float]]) -> float:
    """Median relative difference of the second from the first."""
    return round(float(np.median([abs(other - one) / one for one, other in pairs])), 4)


if __name__ == "__main__":
    main()
