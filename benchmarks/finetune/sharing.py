"""Is an architecture as good inherited from the super-network as it is when it is fine-tuned alone?

Architectures at 0.75, 0.5 and 0.35 of the full model's latency, fixed without a look at accuracy: one with unlike layers, and
two with layers alike. Both begin from the same pre-trained weights and see every row equally often. Alone, a network is
fine-tuned twice: from the pre-trained weights, as anybody would, cut out by the same criterion on the same rows; and in the
way that is best for it of all (`alone.ways_of`), which may take from the super-network's recipe what one size can have: the full
network's first steps, and the correction for its own size (of images with ``--strongest`` only: it takes as long again). The
settings of both are the best of those tried on the validation rows of one seed. Accuracy on validation and test rows together.
``python -m benchmarks.finetune.sharing``
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.finetune.alone import Way
from benchmarks.finetune.choice import TARGETS
from benchmarks.finetune.harness import Bench, command, each_points, median_points, points, spread_points
from benchmarks.finetune.trainings import SPLITS, Need
from instatune_deploy.supernet.architecture import Architecture

ORDINARY, STRONGEST = "alone", "alone, strongest"
KEYS = {ORDINARY: "inherited_minus_standalone_points", STRONGEST: "inherited_minus_strongest_points"}
Differences = dict[str, list[float]]
"""By how the network was fine-tuned alone: inherited minus alone of every seed, as shares of 1."""


def sharing(bench: Bench) -> None:
    """Accuracy inherited from the super-network beside that of the same architecture fine-tuned alone."""
    ways = {ORDINARY: bench.ordinary_way, **({STRONGEST: bench.way} if bench.strongest else {})}
    chosen = [item for items in bench.at_targets.values() for item in items]
    runs = [(subject, seed) for subject in bench.subjects for seed in range(bench.seeds)]
    bench.workshop.make(
        [Need(bench.supernet(*run), dict.fromkeys(SPLITS, chosen)) for run in runs]
        + [Need(bench.alone(*run, item, way)) for way in ways.values() for run in runs for item in chosen]
    )
    rows, cells = [], []
    for subject in bench.subjects:
        for target, items in bench.at_targets.items():
            for item in items:
                row, found = _compared(bench, subject, target, item, ways)
                rows.append(row)
                cells.append({"subject": subject, "target": target, "network": str(item), "differences": found})
    said = {name: way.said() for name, way in ways.items()}
    bench.report("sharing", rows, summarised(cells), alone=said, members=bench.members)


def summarised(cells: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians over subjects, networks and seeds by target, in points; the spread, and the cell that loses most.

    cells: subject, target, network, and ``differences`` (`Differences`)
    """
    missing = [key for name, key in KEYS.items() if name not in cells[0]["differences"]]
    keys = {name: key for name, key in KEYS.items() if key not in missing}
    pooled = {
        name: {
            str(target): [each for cell in cells if cell["target"] == target for each in cell["differences"][name]]
            for target in TARGETS
        }
        for name in keys
    }
    return {
        **{key: {target: median_points(found) for target, found in pooled[name].items()} for name, key in keys.items()},
        "spread_points": {
            key: {target: spread_points(found) for target, found in pooled[name].items()} for name, key in keys.items()
        },
        "worst_median": {key: worst(cells, name) for name, key in keys.items()},
        **(dict.fromkeys(missing) | {"why": "not asked for: --strongest"} if missing else {}),
    }


def worst(cells: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    """Of all subjects, targets and networks the one that loses most; ``points`` is its median over the seeds."""
    cell = min(cells, key=lambda cell: statistics.median(cell["differences"][name]))
    where = {part: cell[part] for part in ("subject", "target", "network")}
    return {**where, "points": median_points(cell["differences"][name])}


def _compared(
    bench: Bench, subject: str, target: float, item: Architecture, ways: Mapping[str, Way]
) -> tuple[dict[str, Any], Differences]:
    """A row of the table, and what it tells by seed."""
    seeds = range(bench.seeds)
    inherited = [bench.workshop.made(bench.supernet(subject, seed)).pooled(item) for seed in seeds]
    row = {
        "subject": subject,
        "target": target,
        "network": str(item),
        "latency x": round(bench.latencies.of([item])[item] / bench.full_ms, 3),
        "MACs x": round(bench.macs(item) / bench.macs(bench.full), 3),
        "inherited %": median_points(inherited),
    }
    differences = {}
    for name, way in ways.items():
        alone = [bench.workshop.made(bench.alone(subject, seed, item, way)).pooled() for seed in seeds]
        found = differences[name] = [ours - theirs for ours, theirs in zip(inherited, alone, strict=True)]
        row |= {
            f"{name} %": median_points(alone),
            f"minus {name}, points": points(statistics.median(found)),
            f"minus {name}, by seed": each_points(found),
        }
    return row, differences


if __name__ == "__main__":
    command(sharing)()
