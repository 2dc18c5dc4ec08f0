"""Is an architecture as good inherited from the super-network as it is when it is fine-tuned alone?

Architectures at 0.75, 0.5 and 0.35 of the full model's latency, fixed without a look at accuracy: one with unlike layers, and
two with layers alike. Both begin from the same pre-trained weights and see every row equally often. Alone, a network gets what
the super-network gets where that is best for it (`alone.WAYS`): the full network's first steps, the ordering by the same
criterion on the same rows, and the correction, for its own size only. Accuracy on the validation and test rows together; of
them the validation rows of one seed chose the way of the networks alone. ``python -m benchmarks.finetune.sharing``
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.finetune.choice import TARGETS
from benchmarks.finetune.harness import Bench, command, each_points, median_points, points, spread_points
from benchmarks.finetune.trainings import SPLITS, Need
from instatune_deploy.supernet.architecture import Architecture


def sharing(bench: Bench) -> None:
    """Accuracy inherited from the super-network beside that of the same architecture fine-tuned alone."""
    chosen = [item for items in bench.at_targets.values() for item in items]
    runs = [(subject, seed) for subject in bench.subjects for seed in range(bench.seeds)]
    bench.workshop.make(
        [Need(bench.supernet(*run), dict.fromkeys(SPLITS, chosen)) for run in runs]
        + [Need(bench.alone(*run, item)) for run in runs for item in chosen]
    )
    rows, differences = [], dict[float, list[float]]()
    cells = []
    for subject in bench.subjects:
        for target, items in bench.at_targets.items():
            for item in items:
                row, found = _compared(bench, subject, target, item)
                rows.append(row)
                differences.setdefault(target, []).extend(found)
                cells.append({"subject": subject, "target": target, "network": str(item), "points": median_points(found)})
    summary = {
        "inherited_minus_standalone_points": {str(target): median_points(differences[target]) for target in TARGETS},
        "spread_points": {str(target): spread_points(differences[target]) for target in TARGETS},
        "worst_median": worst(cells),
    }
    bench.report("sharing", rows, summary, alone=bench.way.said(), members=bench.members)


def worst(cells: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of all subjects, targets and networks the one that loses most; ``points`` is its median over the seeds."""
    return min(cells, key=lambda cell: float(cell["points"]))


def _compared(bench: Bench, subject: str, target: float, item: Architecture) -> tuple[dict[str, Any], list[float]]:
    """A row of the table, and the differences by seed (0 to 1)."""
    seeds = range(bench.seeds)
    inherited = [bench.workshop.made(bench.supernet(subject, seed)).pooled(item) for seed in seeds]
    alone = [bench.workshop.made(bench.alone(subject, seed, item)).pooled() for seed in seeds]
    differences = [ours - theirs for ours, theirs in zip(inherited, alone, strict=True)]
    row = {
        "subject": subject,
        "target": target,
        "network": str(item),
        "latency x": round(bench.latencies.of([item])[item] / bench.full_ms, 3),
        "MACs x": round(bench.macs(item) / bench.macs(bench.full), 3),
        "inherited %": median_points(inherited),
        "alone %": median_points(alone),
        "difference, points": points(statistics.median(differences)),
        "by seed": each_points(differences),
    }
    return row, differences


if __name__ == "__main__":
    command(sharing)()
