"""What the scripts of this folder share: their options, the members they look at, and the medians they report."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import click

from benchmarks.finetune.choice import TARGETS, TOKENS, Figures, at_target, spread_members, uniform_members
from benchmarks.finetune.latency import Latencies
from benchmarks.finetune.subjects import SUBJECTS, TINY
from benchmarks.finetune.trainings import Training, Workshop, changed
from benchmarks.results import FOLDER, REPOSITORY, markdown, write_result
from instatune_deploy.supernet.architecture import Architecture

WORK = REPOSITORY / "runs" / "benchmarks" / "finetune"
EVERY = 2
"""Of the uniform members, so many apart by MACs are evaluated; every latency is measured."""
SPREAD = 40
QUICK_SPREAD = 4


@dataclass(frozen=True)
class Bench:
    """One run of a script."""

    quick: bool
    seeds: int
    work: Path
    jobs: int
    alone_learning_rate: float | None
    subjects: tuple[str, ...]
    results: Path

    @cached_property
    def workshop(self) -> Workshop:
        """Where trainings are made."""
        return Workshop(self.work, 0 if self.quick else self.jobs)

    @cached_property
    def latencies(self) -> Latencies:
        """Where latencies are measured."""
        return Latencies(self.work, self.quick)

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
        members = uniform_members(self.latencies.made.space)
        return self.latencies.of(members[:: len(members) // 6] if self.quick else members)

    @cached_property
    def at_targets(self) -> dict[float, list[Architecture]]:
        """Two architectures for every share of the full latency, chosen without a look at accuracy."""
        return {target: at_target(self.uniform_ms, self.full_ms, target) for target in TARGETS}

    @cached_property
    def candidates(self) -> list[Architecture]:
        """Members that are evaluated where accuracy chooses: uniform ones, and others with sub-layers gone."""
        made = self.latencies.made
        ordered = sorted(self.uniform_ms, key=self.macs, reverse=True)
        spread = spread_members(made.space, made.network.shape, QUICK_SPREAD if self.quick else SPREAD)
        return list(dict.fromkeys([self.full, *ordered[::EVERY], *spread]))

    @cached_property
    def candidates_ms(self) -> Figures:
        """Their latencies."""
        return self.latencies.of(self.candidates)

    def macs(self, architecture: Architecture) -> float:
        """Multiply-accumulates of one row of 128 tokens."""
        return float(self.latencies.made.network.shape.macs_of(architecture, TOKENS))

    def supernet(self, subject: str, seed: int, **changes: Any) -> Training:
        """The super-network of a seed, by the default recipe but for ``changes``."""
        return Training("super-network", subject, seed, changed(changes))

    def alone(self, subject: str, seed: int, architecture: Architecture) -> Training:
        """An architecture that is fine-tuned for itself."""
        return Training("alone", subject, seed, self.alone_changes, architecture)

    @property
    def alone_changes(self) -> tuple[tuple[str, Any], ...]:
        """Settings of every ordinary fine-tuning."""
        return () if self.alone_learning_rate is None else (("learning_rate", self.alone_learning_rate),)

    def report(self, name: str, rows: Sequence[dict[str, Any]], summary: dict[str, Any], **settings: Any) -> None:
        """Print the table, write the result."""
        click.echo(markdown(rows))
        said = {"quick": self.quick, "seeds": self.seeds, "subjects": list(self.subjects), "space": "wide"}
        said |= {"alone_learning_rate": self.alone_learning_rate, "latency": f"median, {self.latencies.run}, {TOKENS} tokens"}
        write_result(f"finetune-{name}", {**said, **settings}, rows, summary, self.results)


def command(script: Callable[[Bench], None]) -> click.Command:
    """A script as a command with the options that all of them have."""

    @click.command(help=script.__doc__)
    @click.option("--quick", is_flag=True, help="A smoke run on a tiny random model; its figures mean nothing.")
    @click.option("--seeds", default=3, show_default=True, help="How many, from 0 on.")
    @click.option("--jobs", default=2, show_default=True, help="Trainings at a time, each on one thread.")
    @click.option("--work", default=WORK, type=click.Path(path_type=Path), show_default=True, help="What is made is kept there.")
    @click.option("--alone-learning-rate", type=float, help="For ordinary fine-tunings, when it is not the super-network's.")
    @click.option("--subject", "subjects", multiple=True, type=click.Choice(SUBJECTS), help="Only these; all when not given.")
    @click.option("--results", default=FOLDER, type=click.Path(path_type=Path), help="Where the JSON is written.")
    def run(
        quick: bool,
        seeds: int,
        jobs: int,
        work: Path,
        alone_learning_rate: float | None,
        subjects: tuple[str, ...],
        results: Path,
    ) -> None:
        chosen = (TINY,) if quick else (subjects or SUBJECTS)
        seeds, work = (1, work / "quick") if quick else (seeds, work)
        work.mkdir(parents=True, exist_ok=True)
        script(Bench(quick, seeds, work, jobs, alone_learning_rate, chosen, results))

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
