"""Accuracy against MACs, as in the paper's table: how small a member may be that loses nothing, half a point, one point.

Chosen on the validation rows, reported on the test rows. The reference is the full network, fine-tuned alone or within the
super-network, whichever is better on the validation rows. ``python -m benchmarks.finetune.macs``
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.finetune.choice import best_within, smallest_losing
from benchmarks.finetune.harness import Bench, command, median_points, points, spread
from benchmarks.finetune.trainings import Made, Need
from instatune_deploy.supernet.architecture import Architecture

LOSING = {"loses nothing": 0.0, "loses at most 0.5 points": 0.5, "loses at most 1 point": 1.0}
KEYS = dict(zip(LOSING, ("macs_saved_at_0_points", "macs_saved_at_0_5_points", "macs_saved_at_1_point"), strict=True))
HALF = "loses at most 0.5 points"
FASTER = (3, 5)
PAPER: dict[str, tuple[str, tuple[tuple[str, float, float], ...]]] = {
    # arXiv 2308.15609: the network, and of each row accuracy % and GMACs
    "sentiment": (
        "BERT-base, SST-2",
        (
            ("full network", 92.40, 11.17),
            ("best", 93.00, 8.31),
            ("loses nothing", 92.43, 6.41),
            ("loses at most 1 point", 91.74, 5.18),
        ),
    ),
    "fashion": (
        "ViT-B/16",
        (("full network", 81.41, 17.6), ("loses nothing", 81.41, 16.59), ("loses at most 1 point", 80.77, 15.55)),
    ),
}
"""By the pipeline that stands beside it."""


@dataclass(frozen=True)
class Found:
    """A network that was chosen, and what it is worth; shares of 1. network: None when the reference itself was taken."""

    label: str
    network: Architecture | None
    validation: float
    test: float
    macs_saved: float
    latency_saved: float
    test_lost: float = 0.0
    """Against the reference of the same subject and seed."""


def macs(bench: Bench) -> None:
    """The smallest members at no loss, 0.5 points and 1 point, and the best at a third and a fifth of the latency."""
    runs = [(subject, seed) for subject in bench.subjects for seed in range(bench.seeds)]
    bench.workshop.make(
        [Need(bench.supernet(*run), {"validation": bench.candidates}) for run in runs]
        + [Need(bench.full_alone(*run)) for run in runs]
    )
    chosen = {run: _chosen(bench, bench.workshop.made(bench.supernet(*run)), _alone(bench, *run)) for run in runs}
    bench.workshop.make(
        [
            Need(bench.supernet(*run), {"test": [bench.full, *(item for _, item in picked if item is not None)]})
            for run, picked in chosen.items()
        ]
    )
    found = {run: _found(bench, run, picked) for run, picked in chosen.items()}
    rows: list[dict[str, Any]] = []
    for run, items in found.items():
        rows += [_row(*run, item) for item in items]
    for subject in bench.subjects:
        by_label = zip(*(items for run, items in found.items() if run[0] == subject), strict=True)
        rows += [_median_row(subject, items) for items in by_label]
    fastest = max(bench.full_ms / milliseconds for milliseconds in bench.candidates_ms.values())
    summary = {**summarised(found), "fastest_times": round(fastest, 1)}
    bench.report("macs", [*rows, *paper_rows(bench.family.pipeline)], summary, candidates=len(bench.candidates))


def _alone(bench: Bench, subject: str, seed: int) -> Made:
    return bench.workshop.made(bench.full_alone(subject, seed))


def _chosen(bench: Bench, supernet: Made, alone: Made) -> list[tuple[str, Architecture | None]]:
    """What is shown, by the validation rows; None where only the reference itself will do."""
    accuracies = {item: supernet.accuracy("validation", item) for item in bench.candidates}
    costs = {item: bench.macs(item) for item in bench.candidates}
    reference = max(accuracies[bench.full], alone.accuracy("validation"))
    losing = [(name, smallest_losing(accuracies, costs, reference, most)) for name, most in LOSING.items()]
    faster = [(f"{times}x less latency", best_within(accuracies, bench.candidates_ms, bench.full_ms / times)) for times in FASTER]
    return [*losing, *faster]


def _found(bench: Bench, run: tuple[str, int], picked: Sequence[tuple[str, Architecture | None]]) -> list[Found]:
    supernet, alone = bench.workshop.made(bench.supernet(*run)), _alone(bench, *run)
    full = _worth(bench, supernet, "full, in the super-network", bench.full)
    by_itself = Found("full, fine-tuned alone", None, alone.accuracy("validation"), alone.accuracy("test"), 0, 0)
    reference = max(by_itself, full, key=lambda item: item.validation)
    found = [by_itself, full, replace(reference, label="reference", network=None, macs_saved=0, latency_saved=0)]
    for label, item in picked:
        if item is None:
            found.append(Found(label, None, reference.validation, reference.test, 0, 0))
            continue
        found.append(_worth(bench, supernet, label, item))
    return [replace(item, test_lost=reference.test - item.test) for item in found]


def _worth(bench: Bench, supernet: Made, label: str, item: Architecture) -> Found:
    saved = 1 - bench.macs(item) / bench.macs(bench.full), 1 - bench.candidates_ms[item] / bench.full_ms
    return Found(label, item, supernet.accuracy("validation", item), supernet.accuracy("test", item), *saved)


def _row(subject: str, seed: int, item: Found) -> dict[str, Any]:
    return {
        "subject": subject,
        "seed": str(seed),
        "what": item.label,
        "network": str(item.network or "the reference"),
        "validation %": points(item.validation),
        "test %": points(item.test),
        "test points lost": points(item.test_lost),
        "MACs saved %": points(item.macs_saved),
        "latency saved %": points(item.latency_saved),
    }


def _median_row(subject: str, items: Sequence[Found]) -> dict[str, Any]:
    medians = {
        name: statistics.median(getattr(item, name) for item in items)
        for name in ("validation", "test", "macs_saved", "latency_saved", "test_lost")
    }
    row = _row(subject, 0, Found(items[0].label, None, **medians))
    return row | {"seed": "median", "network": ""}


def paper_rows(pipeline: str) -> list[dict[str, Any]]:
    """What the paper reports beside a pipeline's family."""
    network, rows = PAPER[pipeline]
    full = rows[0][2]
    return [
        {
            "subject": f"the paper: {network}",
            "seed": "",
            "what": what,
            "network": network,
            "validation %": accuracy,
            "test %": None,
            "test points lost": None,
            "MACs saved %": points(1 - gmacs / full),
            "latency saved %": None,
        }
        for what, accuracy, gmacs in rows
    ]


def summarised(found: dict[tuple[str, int], list[Found]]) -> dict[str, Any]:
    """Medians over subjects and seeds; rows tell them apart."""

    def all_of(label: str) -> list[Found]:
        return [item for items in found.values() for item in items if item.label == label]

    saved = {KEYS[name]: round(statistics.median(item.macs_saved for item in all_of(name)), 4) for name in LOSING}
    half = all_of(HALF)
    test_lost = {name: median_points([item.test_lost for item in all_of(name)]) for name in LOSING}
    far_end = {
        str(times): {
            "test_points": median_points([item.test for item in items]),
            "test_points_lost": median_points([item.test_lost for item in items]),
            "latency_saved": round(statistics.median(item.latency_saved for item in items), 4),
        }
        for times in FASTER
        if (items := all_of(f"{times}x less latency"))
    }
    return {
        **saved,
        "latency_saved_at_0_5_points": round(statistics.median(item.latency_saved for item in half), 4),
        "test_points_lost": test_lost,
        "spread": {KEYS[name]: spread([item.macs_saved for item in all_of(name)]) for name in LOSING},
        "far_end": far_end,
        "full_test_points": median_points([item.test for item in all_of("reference")]),
        "test_points_by_subject": {
            subject: {
                label: median_points(
                    [item.test for run in found if run[0] == subject for item in found[run] if item.label == label]
                )
                for label in ("reference", *(f"{times}x less latency" for times in FASTER))
            }
            for subject in dict.fromkeys(subject for subject, _ in found)
        },
    }


if __name__ == "__main__":
    command(macs)()
