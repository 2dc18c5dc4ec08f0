"""What each ingredient of the recipe brings: the default beside itself without one; a teacher never, early, throughout.

Accuracy at the architectures of 0.5 of the full model's latency (others beside it), on the validation and test rows together,
for none of them chose anything. The correction is part of no default recipe: what it brings is shown beside.
``python -m benchmarks.finetune.ablation``
"""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.finetune.harness import Bench, command, each_points, median_points, points, spread_points
from benchmarks.finetune.subjects import pipeline
from benchmarks.finetune.trainings import SPLITS, Need
from instatune_deploy.config import FinetuneSettings
from instatune_deploy.supernet.architecture import Architecture

DEFAULT = "default"
WITHOUT: dict[str, dict[str, Any]] = {
    "distillation": {"alpha": 1.0},
    "ordering": {"importance_rows": 0},
    "the full network first": {"full_epochs": 0.0},
    "sandwich": {"sampler": "uniform"},
}
WITH: dict[str, dict[str, Any]] = {"correction": {"correct_prefixes": True}}
"""What the default recipe leaves out."""
TEACHER: dict[str, dict[str, Any]] = {
    "never": {"teacher": None, "teacher_epochs": None},
    "first epoch": {"teacher": "train", "teacher_epochs": 1.0},
    "throughout": {"teacher": "train", "teacher_epochs": None},
}
HALF = "0.5"
Losses = dict[tuple[str, str], list[float]]


def ablation(bench: Bench) -> None:
    """Train the super-network without each ingredient, and with a teacher or without."""
    recipes, teachers = variants(pipeline(bench.subjects[0], {}, bench.work).finetune)
    chosen = {"full": [bench.full], **{str(target): items for target, items in bench.at_targets.items()}}
    of_all = [item for items in chosen.values() for item in items]
    wanted = dict.fromkeys(SPLITS, of_all)
    trainings = {
        (subject, name): [bench.supernet(subject, seed, **changes) for seed in range(bench.seeds)]
        for subject in bench.subjects
        for name, changes in recipes.items()
    }
    bench.workshop.make([Need(item, wanted) for items in trainings.values() for item in items])

    def accuracies(subject: str, name: str, items: list[Architecture]) -> list[float]:
        """By seed, the mean over the architectures."""
        return [statistics.fmean(bench.workshop.made(made).pooled(item) for item in items) for made in trainings[subject, name]]

    half = {key: accuracies(*key, chosen[HALF]) for key in trainings}
    rows: list[dict[str, Any]] = []
    for subject, name in trainings:
        found = _differences(half[subject, DEFAULT], half[subject, name])
        rows.append(
            {
                "subject": subject,
                "recipe": name,
                **{f"{where} %": median_points(accuracies(subject, name, items)) for where, items in chosen.items()},
                f"lost at {HALF}, points": points(statistics.median(found)),
                "by seed": each_points(found),
            }
        )
    bench.report("ablation", rows, summarised(half, teachers), recipes=recipes, members=bench.members)


def variants(default: FinetuneSettings) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Recipes by name as changes to the default one; and by what a teacher does the name of its recipe.

    What is the default already is not a recipe of its own.
    """
    recipes: dict[str, dict[str, Any]] = {DEFAULT: {}}
    for name, changes in WITHOUT.items():
        if default.model_copy(update=changes) != default:
            recipes[f"without {name}"] = changes
    for name, changes in WITH.items():
        if default.model_copy(update=changes) != default:
            recipes[f"with {name}"] = changes
    teachers = {}
    for name, changes in TEACHER.items():
        same = default.model_copy(update=changes) == default
        teachers[name] = DEFAULT if same else f"teacher {name}"
        if not same:
            recipes[teachers[name]] = changes
    return recipes, teachers


def summarised(half: Losses, teachers: dict[str, str]) -> dict[str, Any]:
    """Points lost without each ingredient, and what a teacher brings: medians over subjects and seeds of differences within both.

    half: accuracy at half the latency, by subject and recipe, then by seed, 0 to 1
    """
    subjects = list(dict.fromkeys(subject for subject, _ in half))

    def apart(first: str, second: str) -> list[float]:
        return [each for subject in subjects for each in _differences(half[subject, first], half[subject, second])]

    def known(name: str) -> bool:
        return all((subject, name) in half for subject in subjects)

    lost = {name: apart(DEFAULT, f"without {name}") if known(f"without {name}") else None for name in WITHOUT}
    never = teachers["never"]
    lost["teacher"] = None if never == DEFAULT else apart(DEFAULT, never)
    brought = {name: apart(recipe, never) for name, recipe in teachers.items() if name != "never"}
    added = {name: apart(f"with {name}", DEFAULT) for name in WITH if known(f"with {name}")}
    missing = [name for name, found in lost.items() if found is None]
    return {
        "points_lost_without": {name: found and median_points(found) for name, found in lost.items()},
        "spread_points": {name: found and spread_points(found) for name, found in lost.items()},
        "points_brought_with": {name: median_points(found) for name, found in added.items()},
        "teacher_brings_points": {name: median_points(found) for name, found in brought.items()},
        **({"why": f"the default recipe has none: {', '.join(missing)}"} if missing else {}),
    }


def _differences(first: list[float], second: list[float]) -> list[float]:
    return [one - other for one, other in zip(first, second, strict=True)]


if __name__ == "__main__":
    command(ablation)()
