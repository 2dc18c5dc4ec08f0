"""Every runtime and precision on the default model, and the same networks as others export them.

``python -m benchmarks.profile.runtimes``; let nothing else run meanwhile. Finished files of both sides are measured by the
same protocol, in turns; what optimum makes comes from an environment of its own (`benchmarks/environments/optimum.txt`).
"""

from __future__ import annotations

import statistics
import tempfile
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks.profile.peers import OPTIMUM, environment, peers
from benchmarks.profile.setup import device
from benchmarks.results import FOLDER, markdown, write_result
from instatune_deploy.artifact.graph_files import GRAPH_FILES, write_graph
from instatune_deploy.devices.measure import Laboratory
from instatune_deploy.devices.profile import Device
from instatune_deploy.devices.runs import Run
from instatune_deploy.devices.store import MeasurementStore
from instatune_deploy.pipeline.bench import Bench
from instatune_deploy.pipeline.inputs import load_inputs, load_pipeline
from instatune_deploy.pipeline.supernet import finetune_stage
from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.terminal import Terminal

NETWORKS = {
    "full": Architecture(tuple(range(6)), (12,) * 6, (1536,) * 6),
    # every head, so that an ordinary configuration can say it and others can export it
    "3 layers, MLP 768": Architecture((1, 3, 5), (12,) * 3, (768,) * 3),
}


@dataclass
class Contender:
    """One finished file, what is known of it, and its latencies round by round."""

    network: str
    name: str
    run: Run
    path: Path
    size_bytes: int
    accuracy: float | None = None
    ours: bool = True
    latencies_ms: list[float] = field(default_factory=list)

    @property
    def median_ms(self) -> float | None:
        """Of the rounds that were believed."""
        return statistics.median(self.latencies_ms) if self.latencies_ms else None


@click.command()
@click.option("--quick", is_flag=True, help="A smoke run: one round of the smaller network, no peers; its figures mean nothing.")
@click.option("--rounds", default=3, show_default=True, help="How often everything is measured, in turns.")
@click.option("--seeds", "seed", default=0, show_default=True, help="Of the fine-tuning.")
@click.option("--work", type=click.Path(path_type=Path), help="Work folder whose super-network is used, if it has one.")
@click.option("--environment", "given", type=click.Path(path_type=Path), help="optimum's environment, if there is one already.")
@click.option("--results", default=FOLDER, type=click.Path(path_type=Path), help="Where the JSON is written.")
def main(quick: bool, rounds: int, seed: int, work: Path | None, given: Path | None, results: Path) -> None:
    """Export, measure in turns, compare."""
    here, python = device("xeon-cpu"), None if quick else environment(OPTIMUM, given)
    names = list(NETWORKS)[1:] if quick else list(NETWORKS)
    with (
        tempfile.TemporaryDirectory() as scratch,
        MeasurementStore(Path(scratch) / "store.sqlite") as store,
        closing(Laboratory(store)) as laboratory,
    ):
        inputs = load_inputs(load_pipeline("sentiment"))
        bench = Bench(inputs, finetune_stage(inputs, work or Path(scratch) / "work", seed, Terminal()), here, laboratory)
        contenders = []
        for name in names:
            folder = Path(scratch) / name.replace(" ", "-")
            contenders += _ours(bench, name, folder)
            if python is not None:
                contenders += _theirs(bench, name, folder / "peers", python)
        for number in range(1 if quick else rounds):
            measure_in_turn(contenders, bench, laboratory, here)
            click.echo(f"round {number + 1}", err=True)
    rows = [_row(contender) for contender in contenders]
    click.echo(markdown(rows))
    write_result(
        "profile-runtimes",
        {"quick": quick, "rounds": rounds, "seed": seed, "threads": here.runs[0].threads, "statistic": here.statistic},
        rows,
        _summary(contenders, names),
        results,
    )


def _ours(bench: Bench, name: str, folder: Path) -> list[Contender]:
    contenders = []
    for run in bench.device.runs:
        made = finished(bench, name, NETWORKS[name], run, folder / "-".join([run.runtime, run.precision]))
        made.accuracy = bench.accuracy(NETWORKS[name], run, "test")
        contenders.append(made)
        click.echo(f"{name}, {run}: made", err=True)
    return contenders


def finished(bench: Bench, name: str, architecture: Architecture, run: Run, folder: Path) -> Contender:
    """What an artifact's graph would be, written to ``folder``."""
    folder.mkdir(parents=True)
    write_graph(bench.finished_graph(architecture, run), run.runtime, run.precision, folder)
    files = GRAPH_FILES[run.runtime]
    return Contender(name, "instatune-deploy", run, files.path(folder), files.size_bytes(folder))


def _theirs(bench: Bench, name: str, folder: Path, python: Path) -> list[Contender]:
    model = bench.supernet.network.extract(NETWORKS[name])
    example = {key: torch.from_numpy(value) for key, value in bench.example(NETWORKS[name]).items()}
    threads = bench.device.runs[0].threads
    return [
        Contender(name, peer.name, Run(peer.runtime, peer.precision, threads), peer.path, bytes_of(peer.path), ours=False)
        for peer in peers(model, partial(bench.task.save, size=bench.device.size), example, folder, python)
    ]


def bytes_of(path: Path) -> int:
    """Of a graph file and the weights beside it."""
    beside = [path.with_suffix(".bin"), path.with_name(path.name + ".data")]
    return path.stat().st_size + sum(file.stat().st_size for file in beside if file.exists())


def measure_in_turn(contenders: list[Contender], bench: Bench, laboratory: Laboratory, here: Device) -> None:
    """One round: every contender once; a latency that is not believed is left out."""
    example = bench.example(bench.architectures.largest())
    for contender in contenders:
        nominal_ms, _ = laboratory.nominal_ms(contender.run, here)
        process = laboratory.process(contender.run)
        outcome = process.measure(contender.path, example, contender.run, here.timing, nominal_ms)
        if outcome.timing is not None and outcome.why is None:
            contender.latencies_ms.append(outcome.timing.statistic_ms(here.statistic))


def _row(contender: Contender) -> dict[str, Any]:
    median_ms = contender.median_ms
    lowest, highest = (min(contender.latencies_ms), max(contender.latencies_ms)) if contender.latencies_ms else (None, None)
    return {
        "network": contender.network,
        "made by": contender.name,
        "run": str(contender.run),
        "p90 ms (median)": median_ms and round(median_ms, 2),
        "rounds": "-" if lowest is None or highest is None else f"{lowest:.2f} - {highest:.2f}",
        "test accuracy": "" if contender.accuracy is None else f"{contender.accuracy:.1%}",
        "MB": round(contender.size_bytes / 1e6, 1),
    }


def _summary(contenders: list[Contender], names: list[str]) -> dict[str, Any]:
    """Ratios of our medians to the best peer's, of the network where we do worst."""

    def best(network: str, ours: bool, precision: str | None = None, runtime: str | None = None) -> float | None:
        found = [
            contender.median_ms
            for contender in contenders
            if (contender.network, contender.ours) == (network, ours)
            and precision in (None, contender.run.precision)
            and runtime in (None, contender.run.runtime)
            and contender.median_ms is not None
        ]
        return min(found, default=None)

    def worst_ratio(precision: str | None, runtime: str | None) -> float | None:
        pairs = [(best(name, True, precision, runtime), best(name, False, "fp32", runtime)) for name in names]
        ratios = [ours / theirs for ours, theirs in pairs if ours is not None and theirs is not None]
        return round(max(ratios), 3) if ratios else None

    ratio = worst_ratio("fp32", None)
    return {
        "ratio_to_best_peer": ratio,
        "ratio_to_best_peer_by_runtime": {runtime: worst_ratio("fp32", runtime) for runtime in ("onnxruntime", "openvino")},
        "ratio_any_precision": worst_ratio(None, None),
        **({} if ratio is not None else {"why": "no peers in a smoke run, or nothing was believed"}),
    }


if __name__ == "__main__":
    main()
