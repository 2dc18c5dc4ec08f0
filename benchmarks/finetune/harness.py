"""What the scripts of this folder share: their options, the members they look at, and the medians they report."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.families import Family, family_option
from benchmarks.finetune.alone import STARTS, Way, best, ways_of
from benchmarks.finetune.choice import TARGETS, TOLERANCE, Figures, at_target, expected_ms, irregular, spread_members
from benchmarks.finetune.latency import AT_ONCE, Latencies
from benchmarks.finetune.subjects import SUBJECTS, pipeline
from benchmarks.finetune.trainings import Need, Training, Workshop, changed
from benchmarks.results import FOLDER, markdown, write_result
from instatune_deploy.cli import ClearErrors
from instatune_deploy.config import PipelineSettings
from instatune_deploy.errors import BadInput
from instatune_deploy.finetune.dropout import Dropout
from instatune_deploy.supernet.architecture import Architecture

SPREAD = 40
IRREGULAR = 2000
"""Members spread over MACs among which one with unlike layers is looked for at every target."""
LIKELY = 0.1
"""Those whose expected latency is off by no more are measured."""
QUICK_SPREAD, QUICK_IRREGULAR = 4, 40
WAY_TARGET = 0.5
"""Where the way of fine-tuning alone is chosen."""


@dataclass(frozen=True)
class Bench:
    """One run of a script."""

    family: Family
    quick: bool
    seeds: int
    work: Path
    jobs: int
    members: int
    subjects: tuple[str, ...]
    results: Path
    strongest: bool = True

    @cached_property
    def workshop(self) -> Workshop:
        """Where trainings are made."""
        return Workshop(self.work, 0 if self.quick else self.jobs)

    @cached_property
    def latencies(self) -> Latencies:
        """Where latencies are measured."""
        return Latencies(self.work, self.quick, self.family)

    @property
    def first(self) -> str:
        """The subject that stands for all where one is enough."""
        return self.subjects[0] if self.quick else self.family.subjects[0]

    @cached_property
    def settings(self) -> PipelineSettings:
        """Its pipeline."""
        return pipeline(self.first, {}, self.work)

    @cached_property
    def has_dropout(self) -> bool:
        """Whether the model has any: with and without are the same trainings where it has none."""
        return any(probability for _, probability in Dropout(self.latencies.made.network.model).modules)

    @cached_property
    def full(self) -> Architecture:
        """The full network."""
        return self.latencies.made.network.shape.full()

    @cached_property
    def full_ms(self) -> float:
        """Its latency."""
        return self.latencies.of([self.full])[self.full]

    @cached_property
    def uniform_ms(self) -> Figures:
        """Latencies of the members whose layers are all alike."""
        members = self.latencies.made.space.uniform()
        return self.latencies.of(members[:: len(members) // 6] if self.quick else members)

    @cached_property
    def at_targets(self) -> dict[float, list[Architecture]]:
        """Architectures for every share of the full latency, chosen without a look at accuracy, at most ``members`` for each.

        One whose layers are unlike each other, a sub-layer gone; then the shallowest and the deepest of those whose layers
        are all alike, which the recipe's sampler trains more often.
        """
        found = {}
        for target in TARGETS:
            alike = at_target(self.uniform_ms, self.full_ms, target)[::-1]
            found[target] = [self._irregular(target), *alike][: self.members]
        return found

    def _irregular(self, target: float) -> Architecture:
        """The first at the target in an order that a fixed seed gives; the nearest of all that were tried where none is."""
        made, aim_ms = self.latencies.made, target * self.full_ms
        count = QUICK_IRREGULAR if self.quick else IRREGULAR
        drawn = spread_members(made.space, made.network.shape, made.tokens, count, seed=1)
        shuffled = [drawn[index] for index in np.random.default_rng(1).permutation(len(drawn))]
        pool = [item for item in shuffled if irregular(item)] or shuffled  # not every space has sub-layers that are gone
        off = {item: abs(ms / aim_ms - 1) for item, ms in expected_ms(self.uniform_ms, pool).items()}
        likely = [item for item in pool if off[item] <= LIKELY] or [min(off, key=lambda item: off[item])]
        tried: dict[Architecture, float] = {}
        for start in range(0, 1 if self.quick else len(likely), AT_ONCE):
            latencies_ms = self.latencies.of(likely[start : start + (1 if self.quick else AT_ONCE)])
            tried |= {item: abs(ms / aim_ms - 1) for item, ms in latencies_ms.items()}
            if min(tried.values()) <= TOLERANCE:
                return next(item for item in tried if tried[item] <= TOLERANCE)
        return min(tried, key=lambda item: tried[item])

    @cached_property
    def ways(self) -> dict[Way, float]:
        """Accuracy of every way of fine-tuning alone, on the validation rows of one seed (0 to 1).

        Tried once for all subjects, seeds and sizes, at the deepest network with layers alike of half the latency.
        """
        rate = self.settings.finetune.learning_rate
        ways = ways_of(rate, self.has_dropout, STARTS if self.strongest else STARTS[:1])
        item = at_target(self.uniform_ms, self.full_ms, WAY_TARGET)[0]
        if self.quick:  # one of each start
            ways = tuple(way for way in ways if (way.learning_rate, way.dropout) == (rate, ways[0].dropout))
        trainings = {way: self.alone(self.first, 0, item, way) for way in ways}
        self.workshop.make([Need(training) for training in trainings.values()])
        found = {way: self.workshop.made(training).accuracy("validation") for way, training in trainings.items()}
        for way, accuracy in found.items():
            click.echo(f"alone, {way}: {accuracy:.2%} on validation rows", err=True)
        return found

    @cached_property
    def way(self) -> Way:
        """The best way of all: part of it is the super-network's own recipe, for one size only."""
        return best(self.ways)

    @cached_property
    def ordinary_way(self) -> Way:
        """The best of those that fine-tune the small network from the pre-trained weights, as anybody would."""
        return best({way: accuracy for way, accuracy in self.ways.items() if way.start == "pre-trained"})

    @cached_property
    def candidates(self) -> list[Architecture]:
        """Members that are evaluated where accuracy chooses: all uniform ones, and others with sub-layers gone."""
        made = self.latencies.made
        ordered = sorted(self.uniform_ms, key=self.macs, reverse=True)
        spread = spread_members(made.space, made.network.shape, made.tokens, QUICK_SPREAD if self.quick else SPREAD)
        return list(dict.fromkeys([self.full, *ordered, *spread]))

    @cached_property
    def candidates_ms(self) -> Figures:
        """Their latencies."""
        return self.latencies.of(self.candidates)

    def macs(self, architecture: Architecture) -> float:
        """Multiply-accumulates of one row."""
        return self.latencies.made.macs(architecture)

    def supernet(self, subject: str, seed: int, **changes: Any) -> Training:
        """The super-network of a seed, by the default recipe but for ``changes``."""
        return Training("super-network", subject, seed, changed(changes))

    def alone(self, subject: str, seed: int, architecture: Architecture, way: Way | None = None) -> Training:
        """An architecture that is fine-tuned for itself; in the way that is best for such ones, or in ``way``."""
        way = way or self.way
        return Training("alone", subject, seed, changed(way.changes), architecture, start=way.start)

    def full_alone(self, subject: str, seed: int) -> Training:
        """The full network, fine-tuned as anybody would: by the default settings, with the model's dropout."""
        return Training("alone", subject, seed, changed({"dropout": "model"}), self.full)

    def report(self, name: str, rows: Sequence[dict[str, Any]], summary: dict[str, Any], **settings: Any) -> None:
        """Print the table, write the result."""
        click.echo(markdown(rows))
        said = {"quick": self.quick, "seeds": self.seeds, "subjects": list(self.subjects), "space": self.settings.space.preset}
        said |= {"latency": f"median, {self.latencies.run}, {self.latencies.made.tokens} tokens"}
        write_result(self.family.result(f"finetune-{name}"), {**said, **settings}, rows, summary, self.results)


def command(script: Callable[[Bench], None]) -> click.Command:
    """A script as a command with the options that all of them have."""

    @click.command(cls=ClearErrors, help=script.__doc__)
    @click.option("--quick", is_flag=True, help="A smoke run on a tiny random model; its figures mean nothing.")
    @click.option("--seeds", type=int, help="How many, from 0 on; 3 for texts, 1 for images when not given.")
    @click.option("--jobs", default=2, show_default=True, help="Trainings at a time, each on one thread.")
    @click.option("--work", type=click.Path(path_type=Path), help="What is made is kept there; below runs/ when not given.")
    @click.option("--strongest/--no-strongest", default=None, help="Also alone in the strongest way; of texts when not given.")
    @click.option("--latencies", is_flag=True, help="Only measure what needs a quiet machine, for sharing and for macs.")
    @family_option
    @click.option(
        "--members",
        default=3,
        show_default=True,
        type=click.IntRange(1, 3),
        help="Networks at each target: one with unlike layers, the shallowest and the deepest with layers alike, in that order.",
    )
    @click.option("--subject", "subjects", multiple=True, type=click.Choice(SUBJECTS), help="Only these; all when not given.")
    @click.option("--results", default=FOLDER, type=click.Path(path_type=Path), help="Where the JSON is written.")
    def run(
        quick: bool,
        seeds: int | None,
        jobs: int,
        work: Path | None,
        strongest: bool | None,
        latencies: bool,
        family: Family,
        members: int,
        subjects: tuple[str, ...],
        results: Path,
    ) -> None:
        chosen = (family.tiny,) if quick else (subjects or family.subjects)
        if not {*chosen} <= {*family.subjects, family.tiny}:
            raise BadInput(f"--subject: of this family there are {', '.join(family.subjects)}")
        work = work or family.work("finetune")
        seeds, work = (1, work / "quick") if quick else (seeds or family.seeds, work)
        work.mkdir(parents=True, exist_ok=True)
        strongest = family.strongest if strongest is None else strongest
        bench = Bench(family, quick, seeds, work, jobs, members, chosen, results, strongest)
        if not latencies:
            script(bench)
            return
        measured = {*bench.candidates_ms, *(item for items in bench.at_targets.values() for item in items)}
        click.echo(f"{len(measured)} latencies are measured: other work no longer disturbs")

    return run


def points(share: float) -> float:
    """A share or a difference of shares in points of 100."""
    return round(100 * share, 2)


def median_points(shares: Sequence[float]) -> float:
    """Their median in points."""
    return points(statistics.median(shares))


def each_points(shares: Sequence[float]) -> str:
    """One by one, as a table shows them: ``-0.40, 0.10, 0.30``."""
    return ", ".join(f"{100 * share:.2f}" for share in shares)


def spread_points(shares: Sequence[float]) -> list[float]:
    """The smallest and the largest in points."""
    return [points(min(shares)), points(max(shares))]


def spread(values: Sequence[float]) -> list[float]:
    """The smallest and the largest."""
    return [round(min(values), 4), round(max(values), 4)]
