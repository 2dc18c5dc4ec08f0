"""Against what a user would do today: pruning with Torch-Pruning, or keeping the first layers, and fine-tuning that.

Both peers begin from the same pre-trained weights and see every row as often as the super-network does. Ours at a peer's
latency is the member that is best on the validation rows among those measured to be no slower; test accuracy is compared.
Torch-Pruning's criterion, and whether the residual stream is cut too, are those that are best for it on one seed's validation
rows; of its pruning ratios the one that is nearest to the target from above. ``python -m benchmarks.finetune.peers``
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click

from benchmarks.finetune.choice import best_within, first_layers
from benchmarks.finetune.harness import Bench, command, each_points, median_points, points, spread_points
from benchmarks.finetune.pruning import ROWS, Peer, Pruned
from benchmarks.finetune.trainings import Need, Training
from instatune_deploy.supernet.architecture import Architecture

TARGETS = (0.5, 0.35)
CRITERIA = ("taylor", "magnitude")
TORCH_PRUNING, FIRST_LAYERS = "Torch-Pruning", "first layers"
SUMMARY = {TORCH_PRUNING: "minus_torch_pruning_points", FIRST_LAYERS: "minus_first_layers_points"}


@dataclass(frozen=True)
class Rival:
    """What a peer made for a target, on one subject and seed."""

    peer: str
    target: float
    training: Training
    latency_ms: float
    network: str


def peers(bench: Bench) -> None:
    """The most accurate member at a peer's latency beside the peer's network."""
    rivals = {run: _first_layers(bench, *run) for run in _runs(bench)}
    way = None if bench.quick else _best_way(bench)
    if way is not None:
        for run in rivals:
            rivals[run] += _torch_pruning(bench, *run, way)
    bench.workshop.make(
        [Need(bench.supernet(*run), {"validation": bench.candidates}) for run in rivals]
        + [Need(rival.training) for items in rivals.values() for rival in items]
    )
    ours = {(run, rival): _ours(bench, run, rival) for run, items in rivals.items() for rival in items}
    bench.workshop.make([Need(bench.supernet(*run), {"test": [item]}) for (run, _), item in ours.items() if item is not None])
    rows, differences = _rows(bench, rivals, ours)
    summary: dict[str, Any] = {
        key: {str(target): median_points(found) if (found := differences[peer, target]) else None for target in TARGETS}
        for peer, key in SUMMARY.items()
    }
    summary["spread_points"] = {
        key: {str(target): spread_points(found) for target in TARGETS if (found := differences[peer, target])}
        for peer, key in SUMMARY.items()
    }
    if way is None:
        summary["why"] = "no Torch-Pruning in a smoke run"
    said = None if way is None else {"importance": way[0], "residual_stream_cut": way[1], "rows": ROWS, "ranked": "globally"}
    bench.report("peers", rows, summary, torch_pruning=said, candidates=len(bench.candidates))


def _runs(bench: Bench) -> list[tuple[str, int]]:
    return [(subject, seed) for subject in bench.subjects for seed in range(bench.seeds)]


def _first_layers(bench: Bench, subject: str, seed: int) -> list[Rival]:
    shape = bench.latencies.made.network.shape
    whole = [
        Architecture(tuple(range(depth)), (shape.heads,) * depth, (shape.mlp_width,) * depth) for depth in range(1, shape.layers)
    ]
    latencies_ms = bench.latencies.of(whole)
    rivals = []
    for target in TARGETS:
        item = first_layers(latencies_ms, bench.full_ms, target)
        rivals.append(Rival(FIRST_LAYERS, target, bench.alone(subject, seed, item), latencies_ms[item], str(item)))
    return rivals


def _pruned(bench: Bench, subject: str, seed: int, way: tuple[str, bool], targets: Sequence[float]) -> list[Pruned]:
    return Peer(bench.work, bench.latencies).at(subject, seed, *way, [target * bench.full_ms for target in targets])


def _training(bench: Bench, subject: str, seed: int, pruned: Pruned) -> Training:
    return Training("pruned", subject, seed, bench.alone_changes, pruning=pruned.pruning)


def _torch_pruning(bench: Bench, subject: str, seed: int, way: tuple[str, bool]) -> list[Rival]:
    rivals = []
    for target, pruned in zip(TARGETS, _pruned(bench, subject, seed, way, TARGETS), strict=True):
        said = f"hidden {pruned.hidden_size}, {pruned.architecture}"
        rivals.append(Rival(TORCH_PRUNING, target, _training(bench, subject, seed, pruned), pruned.latency_ms, said))
    return rivals


def _best_way(bench: Bench) -> tuple[str, bool]:
    """The peer's settings that are best for it at half the latency, by the validation rows of the first subject and seed.

    First the criterion, the residual stream whole; then with that criterion whether the stream is cut.
    """
    criterion, _ = _better(bench, [(name, False) for name in CRITERIA])
    return _better(bench, [(criterion, False), (criterion, True)])


def _better(bench: Bench, ways: Sequence[tuple[str, bool]]) -> tuple[str, bool]:
    subject = bench.subjects[0]
    trainings = {way: _training(bench, subject, 0, _pruned(bench, subject, 0, way, TARGETS)[0]) for way in ways}
    bench.workshop.make([Need(training) for training in trainings.values()])
    found = {way: bench.workshop.made(training).accuracy("validation") for way, training in trainings.items()}
    for (importance, hidden), accuracy in found.items():
        stream = "cut" if hidden else "whole"
        click.echo(f"Torch-Pruning, {importance}, residual stream {stream}: {accuracy:.2%} on validation rows", err=True)
    return max(found, key=lambda way: found[way])


def _ours(bench: Bench, run: tuple[str, int], rival: Rival) -> Architecture | None:
    """The member that is best on the validation rows among those that are no slower."""
    made = bench.workshop.made(bench.supernet(*run))
    accuracies = {item: made.accuracy("validation", item) for item in bench.candidates}
    return best_within(accuracies, bench.candidates_ms, rival.latency_ms)


def _rows(
    bench: Bench, rivals: dict[tuple[str, int], list[Rival]], ours: dict[tuple[tuple[str, int], Rival], Architecture | None]
) -> tuple[list[dict[str, Any]], dict[tuple[str, float], list[float]]]:
    """A row for every subject, peer and target; and the differences of all subjects and seeds, 0 to 1."""
    rows = []
    differences: dict[tuple[str, float], list[float]] = {(peer, target): [] for peer in SUMMARY for target in TARGETS}
    for subject in bench.subjects:
        for peer, target in differences:
            pairs = [
                (run, rival, item)
                for (run, rival), item in ours.items()
                if (run[0], rival.peer, rival.target) == (subject, peer, target) and item is not None
            ]
            if not pairs:
                continue
            test = [bench.workshop.made(bench.supernet(*run)).accuracy("test", item) for run, _, item in pairs]
            theirs = [bench.workshop.made(rival.training).accuracy("test") for _, rival, _ in pairs]
            found = [mine - other for mine, other in zip(test, theirs, strict=True)]
            differences[peer, target] += found
            rows.append(
                {
                    "subject": subject,
                    "peer": peer,
                    "target": target,
                    "peer's network (one seed's)": pairs[0][1].network,
                    "peer's latency x": _median_latency([rival.latency_ms for _, rival, _ in pairs], bench),
                    "ours (one seed's)": str(pairs[0][2]),
                    "our latency x": _median_latency([bench.candidates_ms[item] for _, _, item in pairs], bench),
                    "peer test %": median_points(theirs),
                    "ours test %": median_points(test),
                    "difference, points": points(statistics.median(found)),
                    "by seed": each_points(found),
                }
            )
    return rows, differences


def _median_latency(latencies_ms: Sequence[float], bench: Bench) -> float:
    return round(statistics.median(latencies_ms) / bench.full_ms, 3)


if __name__ == "__main__":
    command(peers)()
