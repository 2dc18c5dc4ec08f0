"""Against what a user would do today: pruning with Torch-Pruning, or keeping the first layers, and fine-tuning that.

Both peers begin from the same pre-trained weights and see every row as often as the super-network does. Ours at a peer's
latency is the member that is best on the validation rows among those measured to be no slower; test accuracy is compared, and
where no member is fast enough the pair is counted. Peers are fine-tuned in both ways that were best for networks alone
(`alone.ways_of`: of those from the pre-trained weights, and of all); for every subject, target and seed the one that is better on
the validation rows counts. Torch-Pruning's criterion, whether it prunes the raw checkpoint or the full network after its first
steps, and whether the residual stream is cut too, are those that are best for it on one seed's validation rows; of its pruning
ratios the one that is nearest to the target from above. ``python -m benchmarks.finetune.peers``
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import click

from benchmarks.families import TEXT
from benchmarks.finetune.alone import STARTS, Start, Way
from benchmarks.finetune.choice import best_within, first_layers
from benchmarks.finetune.harness import Bench, command, each_points, median_points, points, spread_points
from benchmarks.finetune.pruning import ROWS, Peer, Pruned
from benchmarks.finetune.trainings import Made, Need, Training, Workshop, changed
from instatune_deploy.errors import BadInput
from instatune_deploy.supernet.architecture import Architecture

TARGETS = (0.5, 0.35)
TORCH_PRUNING, FIRST_LAYERS = "Torch-Pruning", "first layers"
SUMMARY = {TORCH_PRUNING: "minus_torch_pruning_points", FIRST_LAYERS: "minus_first_layers_points"}


@dataclass(frozen=True)
class PruningWay:
    """How Torch-Pruning is used. hidden: whether the residual stream is cut as well; start: what is pruned."""

    importance: str
    start: Start
    hidden: bool = False

    def __str__(self) -> str:
        """For people."""
        return f"{self.importance}, from {self.start}, residual stream {'cut' if self.hidden else 'whole'}"


# what the weights' magnitude says hardly changes in the first steps
UNCUT = (*(PruningWay("taylor", start) for start in STARTS), PruningWay("magnitude", "pre-trained"))


@dataclass(frozen=True)
class Rival:
    """What a peer made for a target, on one subject and seed; ``trainings``: of the same network in several ways."""

    peer: str
    target: float
    trainings: tuple[Training, ...]
    latency_ms: float
    network: str

    def best(self, workshop: Workshop) -> Made:
        """The one that is most accurate on the validation rows."""
        return max(map(workshop.made, self.trainings), key=lambda made: made.accuracy("validation"))


def peers(bench: Bench) -> None:
    """The most accurate member at a peer's latency beside the peer's network."""
    if bench.family is not TEXT:
        raise BadInput("Torch-Pruning's best settings were looked for on texts only: leave --family out")
    rivals = {run: _first_layers(bench, *run) for run in _runs(bench)}
    way = None if bench.quick else _best_way(bench)
    if way is not None:
        for run in rivals:
            rivals[run] += _torch_pruning(bench, *run, way)
    bench.workshop.make(
        [Need(bench.supernet(*run), {"validation": bench.candidates}) for run in rivals]
        + [Need(training) for items in rivals.values() for rival in items for training in rival.trainings]
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
    summary["pairs_without_ours"] = without_ours(ours)
    if way is None:
        summary["why"] = "no Torch-Pruning in a smoke run"
    said = None if way is None else {**vars(way), "rows": ROWS, "ranked": "globally"}
    ways = [item.said() for item in _ways(bench)]
    bench.report("peers", rows, summary, torch_pruning=said, fine_tuned=ways, candidates=len(bench.candidates))


def without_ours(ours: Mapping[tuple[tuple[str, int], Rival], Architecture | None]) -> dict[str, dict[str, int]]:
    """By figure of the summary and target, how many of the peer's networks no member of ours is as fast as."""
    lost = [(rival.peer, rival.target) for (_, rival), item in ours.items() if item is None]
    return {key: {str(target): lost.count((peer, target)) for target in TARGETS} for peer, key in SUMMARY.items()}


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
        trainings = tuple(bench.alone(subject, seed, item, way) for way in _ways(bench))
        rivals.append(Rival(FIRST_LAYERS, target, trainings, latencies_ms[item], str(item)))
    return rivals


def _ways(bench: Bench) -> list[Way]:
    """In which a peer's network is fine-tuned."""
    return list(dict.fromkeys([bench.ordinary_way, bench.way]))


def _trainings(bench: Bench, subject: str, seed: int, way: PruningWay) -> list[Training]:
    """What a pruned network is fine-tuned by; which one is still open. Where it begins is the pruning's say; one that begins
    with the full network after its first steps goes on as that began."""
    ways = _ways(bench) if way.start == "pre-trained" else [bench.way]
    changes = dict.fromkeys(changed(item.changes) for item in ways)
    return [Training("pruned", subject, seed, item, start=way.start) for item in changes]


def _pruned(bench: Bench, training: Training, way: PruningWay, targets: Sequence[float]) -> list[Pruned]:
    targets_ms = [target * bench.full_ms for target in targets]
    return Peer(bench.workshop, bench.latencies).at(training, way.importance, way.hidden, targets_ms)


def _torch_pruning(bench: Bench, subject: str, seed: int, way: PruningWay) -> list[Rival]:
    trainings, rivals = _trainings(bench, subject, seed, way), []
    by_training = [_pruned(bench, training, way, TARGETS) for training in trainings]
    for target, same in zip(TARGETS, zip(*by_training, strict=True), strict=True):
        made = tuple(replace(training, pruning=pruned.pruning) for training, pruned in zip(trainings, same, strict=True))
        said = f"hidden {same[0].hidden_size}, {same[0].architecture}"
        rivals.append(Rival(TORCH_PRUNING, target, made, min(pruned.latency_ms for pruned in same), said))
    return rivals


def _best_way(bench: Bench) -> PruningWay:
    """The peer's settings that are best for it at half the latency, by the validation rows of movies' first seed.

    First criterion and start, the residual stream whole; then with those whether the stream is cut.
    """
    way = _better(bench, UNCUT)
    return _better(bench, [way, replace(way, hidden=True)])


def _better(bench: Bench, ways: Sequence[PruningWay]) -> PruningWay:
    trainings: dict[PruningWay, list[Training]] = {}
    for way in ways:
        for training in _trainings(bench, bench.first, 0, way):
            pruned = _pruned(bench, training, way, TARGETS)[0]
            trainings.setdefault(way, []).append(replace(training, pruning=pruned.pruning))
    bench.workshop.make([Need(training) for items in trainings.values() for training in items])
    found = {
        way: max(bench.workshop.made(training).accuracy("validation") for training in items) for way, items in trainings.items()
    }
    for way, accuracy in found.items():
        click.echo(f"Torch-Pruning, {way}: {accuracy:.2%} on validation rows", err=True)
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
            all_pairs = [
                (run, rival, item)
                for (run, rival), item in ours.items()
                if (run[0], rival.peer, rival.target) == (subject, peer, target)
            ]
            if not all_pairs:
                continue
            pairs = [(run, rival, item) for run, rival, item in all_pairs if item is not None]
            test = [bench.workshop.made(bench.supernet(*run)).accuracy("test", item) for run, _, item in pairs]
            theirs = [rival.best(bench.workshop).accuracy("test") for _, rival, _ in pairs]
            found = [mine - other for mine, other in zip(test, theirs, strict=True)]
            differences[peer, target] += found
            rows.append(
                {
                    "subject": subject,
                    "peer": peer,
                    "target": target,
                    "peer's network (one seed's)": all_pairs[0][1].network,
                    "peer's latency x": _median_latency([rival.latency_ms for _, rival, _ in all_pairs], bench),
                    "ours (one seed's)": str(pairs[0][2]) if pairs else "none is fast enough",
                    "our latency x": _median_latency([bench.candidates_ms[item] for _, _, item in pairs], bench),
                    "peer test %": median_points(theirs) if pairs else None,
                    "ours test %": median_points(test) if pairs else None,
                    "difference, points": points(statistics.median(found)) if pairs else None,
                    "by seed": each_points(found),
                    "seeds without ours": len(all_pairs) - len(pairs),
                }
            )
    return rows, differences


def _median_latency(latencies_ms: Sequence[float], bench: Bench) -> float | None:
    return None if not latencies_ms else round(statistics.median(latencies_ms) / bench.full_ms, 3)


if __name__ == "__main__":
    command(peers)()
