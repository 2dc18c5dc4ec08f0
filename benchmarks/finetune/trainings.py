"""Trainings: each described by a small frozen value, made once in a process of one thread, and kept under its key.

All five scripts ask here for what they need, so they share their trainings, and one that was killed goes on where it stood.
Two trainings of one thread side by side do more work than one of two threads.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

import click

from benchmarks.finetune.alone import Start
from benchmarks.finetune.subjects import pipeline
from benchmarks.results import REPOSITORY
from instatune_deploy.config import PipelineSettings
from instatune_deploy.digests import digest
from instatune_deploy.files import read_json, write_json
from instatune_deploy.pipeline.inputs import PipelineInputs, load_inputs
from instatune_deploy.pipeline.training import computes_in_bf16, trained_on
from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.supernet.space import SPACE_REVISION

Kind = Literal["super-network", "full-first", "alone", "pruned"]
Split = Literal["validation", "test"]
SPLITS: tuple[Split, ...] = ("validation", "test")
SUPERNETWORK_ONLY = {
    *("alpha", "gamma", "temperature", "teacher", "teacher_sha256", "teacher_epochs", "sampler", "samples", "full_epochs"),
    *("correct_prefixes", "checkpoint_steps"),
}
"""Settings that an ordinary fine-tuning does not know; one that begins with the full network knows ``full_epochs``."""
FULL_FIRST: Literal["full-first"] = "full-first"
WORKER = "benchmarks.finetune.worker"


@dataclass(frozen=True)
class Pruning:
    """How Torch-Pruning cut a model. hidden: whether the residual stream was cut as well; ratio: share that goes, 0 to 1."""

    importance: str
    hidden: bool
    ratio: float


@dataclass(frozen=True)
class Training:
    """One fine-tuning, said exactly once.

    super-network: of the wide space, as the pipeline does it
    full-first:    an ordinary fine-tuning of the full network for as long as a super-network's trains alone
    alone:         an ordinary fine-tuning of ``architecture``, cut out of what ``start`` says
    pruned:        an ordinary fine-tuning of what Torch-Pruning left of what ``start`` says

    changes:       settings of the fine-tuning that differ from the default pipeline's, sorted by name
    """

    kind: Kind
    subject: str
    seed: int
    changes: tuple[tuple[str, Any], ...] = ()
    architecture: Architecture | None = None
    pruning: Pruning | None = None
    start: Start = "pre-trained"

    @property
    def full_first(self) -> Training:
        """What one that starts there is cut out of: made by the same settings."""
        return Training(FULL_FIRST, self.subject, self.seed, self.changes)

    def settings(self, work: Path) -> PipelineSettings:
        """Everything it is made by."""
        return pipeline(self.subject, dict(self.changes), work)

    def to_json(self) -> dict[str, Any]:
        """A JSON value; `from_json` gives the same Training back."""
        return {
            "kind": self.kind,
            "subject": self.subject,
            "seed": self.seed,
            "changes": dict(self.changes),
            "architecture": self.architecture and self.architecture.to_json(),
            "pruning": self.pruning and vars(self.pruning),
            "start": self.start,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Training:
        """The inverse of `to_json`."""
        return cls(
            value["kind"],
            value["subject"],
            value["seed"],
            changed(value["changes"]),
            value["architecture"] and Architecture.from_json(value["architecture"]),
            value["pruning"] and Pruning(**value["pruning"]),
            value["start"],
        )

    def __str__(self) -> str:
        """For people."""
        what = self.architecture or (self.pruning and f"{self.pruning.importance}, ratio {self.pruning.ratio:.3f}")
        words = [self.kind, self.subject, f"seed {self.seed}", *([f"{what}, from {self.start}"] if what else [])]
        return ", ".join([*words, *(f"{name} {value}" for name, value in self.changes)])


def changed(changes: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Settings in the one order that a Training knows them in."""
    return tuple(sorted(changes.items()))


@dataclass(frozen=True)
class Need:
    """A training, and the accuracies that are wanted of it. A super-network's are of architectures, others have their own."""

    training: Training
    architectures: Mapping[Split, Sequence[Architecture]] | None = None


@dataclass(frozen=True)
class Made:
    """What was made of a training, in its folder."""

    folder: Path

    @cached_property
    def result(self) -> dict[str, Any]:
        """seconds, rows by split; accuracy by split, or the folder of a super-network (supernet) or a model (model)."""
        return dict(read_json(self.folder / "result.json"))

    @cached_property
    def accuracies(self) -> dict[str, dict[str, float]]:
        """Of a super-network: by split and digest of the architecture."""
        path = self.folder / "accuracies.json"
        return dict(read_json(path)) if path.is_file() else {}

    def accuracy(self, split: Split, architecture: Architecture | None = None) -> float:
        """0 to 1; KeyError for an architecture that nobody asked for."""
        if architecture is None:
            return float(self.result["accuracy"][split])
        return self.accuracies[split][architecture.digest]

    def pooled(self, architecture: Architecture | None = None) -> float:
        """Accuracy on the validation and test rows together; for architectures that no accuracy chose."""
        rows = self.result["rows"]
        return sum(rows[split] * self.accuracy(split, architecture) for split in SPLITS) / sum(rows[split] for split in SPLITS)


@dataclass(frozen=True)
class Workshop:
    """Where trainings are kept and how they are made.

    jobs: how many at a time, each in a process of one thread; 0 makes them in this process, for smoke runs
    """

    work: Path
    jobs: int = 2

    def key(self, training: Training) -> str:
        """Everything the result depends on, as the default recipe is now."""
        settings = training.settings(self.work)
        finetune = settings.finetune.model_dump(mode="json")
        said = settings.space.model_dump(mode="json")
        if said["image_sizes"] is None:  # as before there were any
            del said["image_sizes"]
        space = [said, SPACE_REVISION] if training.kind == "super-network" else None
        if training.kind != "super-network":
            begins_full = FULL_FIRST in (training.kind, training.start)
            unknown = SUPERNETWORK_ONLY - ({"full_epochs"} if begins_full else set())
            finetune = {name: value for name, value in finetune.items() if name not in unknown}
        on = trained_on(_inputs(training.subject, self.work), training.seed, computes_in_bf16())
        return digest({"training": training.to_json() | {"changes": None}, "finetune": finetune, "space": space, "on": on})[:16]

    def made(self, training: Training) -> Made:
        """The result of a training that `make` made."""
        return Made(self.work / "trainings" / self.key(training))

    def lacks(self, need: Need) -> bool:
        """Whether there is anything left to do."""
        made = self.made(need.training)
        if not (made.folder / "result.json").is_file():
            return True
        wanted = (need.architectures or {}).items()
        return any(item.digest not in made.accuracies.get(split, {}) for split, items in wanted for item in items)

    def make(self, needs: Sequence[Need]) -> None:
        """Make what is missing, longest first; a line when each is done."""
        # several wishes of one training would train it twice at the same time
        missing = [need for need in _merged(needs) if self.lacks(need)]
        # what several are cut out of comes first, or they would wait for each other
        begun = dict.fromkeys(need.training.full_first for need in missing if need.training.start == FULL_FIRST)
        if begun:
            self.make([Need(training) for training in begun])
        missing.sort(key=self._cost, reverse=True)
        start = time.monotonic()
        if self.jobs == 0:
            from benchmarks.finetune.worker import perform

            for need in missing:
                perform(need, self)
            return
        with ThreadPoolExecutor(self.jobs) as pool:
            futures = {pool.submit(self._run, need): need for need in missing}
            try:
                for number, future in enumerate(as_completed(futures), 1):
                    future.result()
                    minutes = (time.monotonic() - start) / 60
                    click.echo(f"{number} of {len(missing)} in {minutes:.1f} min: {futures[future].training}", err=True)
            except BaseException:
                pool.shutdown(cancel_futures=True)  # those that run are let finish: their results are kept
                raise

    def _run(self, need: Need) -> None:
        folder = self.made(need.training).folder
        folder.mkdir(parents=True, exist_ok=True)
        wanted = {split: [item.to_json() for item in items] for split, items in (need.architectures or {}).items()}
        write_json(folder / "need.json", {"training": need.training.to_json(), "architectures": wanted})
        one_thread = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        environment = os.environ | one_thread | {"TOKENIZERS_PARALLELISM": "false"}
        command = [sys.executable, "-m", WORKER, str(self.work.absolute()), str((folder / "need.json").absolute())]
        with (folder / "log.txt").open("a", encoding="utf-8") as log:
            done = subprocess.run(command, cwd=REPOSITORY, env=environment, stdout=log, stderr=log, check=False)
        if done.returncode:
            lines = (folder / "log.txt").read_text(encoding="utf-8").splitlines()[-5:]
            raise click.ClickException("\n".join([f"{need.training} ended with {done.returncode} ({folder})", *lines]))

    def _cost(self, need: Need) -> float:
        """Roughly how long it takes, in full forward and backward passes."""
        training = need.training
        settings = training.settings(self.work)
        steps = settings.finetune.max_steps or settings.finetune.epochs * 7500 / settings.finetune.batch_size
        if (self.made(training).folder / "result.json").is_file():
            return 0.0
        if training.kind == "super-network":
            return 2.0 * steps
        layers = training.architecture.depth if training.architecture else 4
        share = settings.finetune.full_epochs / settings.finetune.epochs if training.kind == FULL_FIRST else 1.0
        return share * steps * layers / 6


@lru_cache(maxsize=8)
def _inputs(subject: str, work: Path) -> PipelineInputs:
    """Model and data, whose checksums are in every key; no change to the fine-tuning touches them."""
    return load_inputs(pipeline(subject, {}, work))


def _merged(needs: Sequence[Need]) -> list[Need]:
    """One need for each training, with everything that any of them wants."""
    wanted: dict[Training, dict[Split, dict[Architecture, None]]] = {}
    for need in needs:
        of_training = wanted.setdefault(need.training, {})
        for split, items in (need.architectures or {}).items():
            of_training.setdefault(split, {}).update(dict.fromkeys(items))
    return [Need(training, {split: list(items) for split, items in found.items()}) for training, found in wanted.items()]
