"""Stage *predict*: what is learned of a device's deployments from those that were measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from instatune_deploy.budget import Budget
from instatune_deploy.config import ObjectiveName, Statistic
from instatune_deploy.devices.runs import Run
from instatune_deploy.errors import BadInput
from instatune_deploy.pipeline.bench import Point
from instatune_deploy.pipeline.lines import Lines, Told
from instatune_deploy.pipeline.objectives import DEFAULT, OBJECTIVES, latency_ms, objectives
from instatune_deploy.pipeline.results import Promise
from instatune_deploy.predict.features import feature_names, features
from instatune_deploy.predict.predictor import MIN_MEASUREMENTS, Predictor
from instatune_deploy.search.base import Constraints, Predicted
from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.supernet.shape import ModelShape
from instatune_deploy.supernet.space import SearchSpace

Sample = tuple[np.ndarray, np.ndarray]
"""x: (n, features), y: (n,)."""
NEVER_MS = 1e9
"""Every cost of a run with too few believed measurements to learn from: it is not proposed."""


@dataclass(frozen=True)
class Learner:
    """Makes predictors for the deployments of one device.

    tokens: of one input; statistic: the latency that is learned
    """

    space: SearchSpace
    shape: ModelShape
    tokens: int
    runs: tuple[Run, ...]
    statistic: Statistic
    seed: int

    def to_json(self) -> dict[str, Any]:
        """A JSON value: what predictors of another learner differ in."""
        runs = [list(run) for run in self.runs]
        return {"space": self.space.to_json(), "shape": self.shape.to_json(), "tokens": self.tokens, "runs": runs}

    @staticmethod
    def enough(points: list[Point]) -> bool:
        """Whether predictors can be made of ``points``; a space of a few networks never has enough."""
        return len({point.architecture for point in points}) >= MIN_MEASUREMENTS

    def fit(self, points: list[Point], names: Sequence[ObjectiveName] = DEFAULT) -> Predictors:
        """Latency in every run with enough measurements, and accuracy; of the rest what ``names`` names.

        ``BadInput`` for measurements that say nothing.
        """
        latency = self._by_run(points, "latency")
        for index, run in enumerate(self.runs):
            alike = {latency_ms(point, self.statistic) for point in points if point.run == run}
            if index in latency and len(alike) == 1:
                count = sum(point.run == run for point in points)
                raise BadInput(f"all {count} latencies measured in {run} are {alike.pop():g} ms: these are no measurements")
        x, y, networks = self.accuracy_sample(points)
        accuracy = Predictor.fit(x, y, self.accuracy_names(), relative=False, seed=self.seed, groups=networks)
        energy = self._by_run(points, "energy") if "energy" in names else {}
        return Predictors(self, latency, accuracy, energy, self.lines(points, "size"), self.lines(points, "memory"))

    def _by_run(self, points: list[Point], name: ObjectiveName) -> dict[int, Predictor]:
        names, found = feature_names(self.space), {}
        for index, run in enumerate(self.runs):
            if sum(point.run == run for point in points) >= MIN_MEASUREMENTS:
                found[index] = Predictor.fit(*self.sample(points, run, name), names, relative=True, seed=self.seed)
        return found

    def exceeded(
        self,
        points: list[Point],
        budget: Budget,
        names: Sequence[ObjectiveName] = DEFAULT,
        fit: Callable[[list[Point]], Predictors] | None = None,
    ) -> Constraints | None:
        """By which share of it each limit of the budget is expected to be exceeded that is none of ``names``; None when there
        is none. Genotypes as in `DeploymentSpace`; ``fit`` makes predictors where bytes and MACs do not do."""
        columns: list[Callable[[np.ndarray], np.ndarray]] = []
        for name, objective in OBJECTIVES.items():
            limit = objective.limit(budget)
            if limit is not None and name not in names:
                told = self._expected(points, name, fit or self.fit)
                columns.append(lambda x, told=told, limit=limit: (told(x) - limit) / (limit or 1.0))  # type: ignore[misc]
        return (lambda x: np.column_stack([column(x) for column in columns])) if columns else None

    def _expected(self, points: list[Point], name: ObjectiveName, fit: Callable[[list[Point]], Predictors]) -> Told:
        """What is expected of a figure; 0 where nothing is known yet."""
        if name == "macs":
            return self.macs
        if name in ("size", "memory"):
            return self.lines(points, name).predict
        if not self.enough(points):
            return lambda x: np.zeros(len(x))
        return lambda x: fit(points).mean(x, (name,))[:, 0]

    def macs(self, genotypes: np.ndarray) -> np.ndarray:
        """Of one input, (n, genes of a deployment) -> (n,)."""
        return self.shape.macs(*self.space.sizes(genotypes[:, :-1]), self.tokens)

    def lines(self, points: list[Point], name: ObjectiveName) -> Lines:
        """How many bytes the graphs' files take in each runtime and precision (size), or a process in each run (memory)."""
        groups = [self.kind(run) if name == "size" else index for index, run in enumerate(self.runs)]
        known: dict[int, dict[Architecture, float]] = {}
        for point in points:
            figure = OBJECTIVES[name].of(point, self.statistic)
            if figure is not None:
                known.setdefault(groups[self.runs.index(point.run)], {})[point.architecture] = figure
        return Lines.fit(self.space, self.shape, known, np.array(groups))

    def features(self, genotypes: np.ndarray) -> np.ndarray:
        """(n, genes of an architecture) -> (n, features)."""
        return features(self.space, self.shape, genotypes, self.tokens)

    def sample(self, points: list[Point], run: Run, name: ObjectiveName = "latency") -> Sample:
        """Features and a figure of one way of running."""
        chosen = [point for point in points if point.run == run]
        x = self.features(np.array([self.space.encode(point.architecture) for point in chosen]))
        return x, objectives(chosen, self.statistic, (name,))[:, 0]

    def accuracy_sample(self, points: list[Point]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Features, accuracies and which network each is of; every network once in every runtime and precision, on however
        many threads it was run."""
        accuracies = {(point.architecture, self.kind(point.run)): point.accuracy for point in points}
        numbers = {architecture: number for number, architecture in enumerate(dict.fromkeys(item for item, _ in accuracies))}
        x = self.features(np.array([self.space.encode(architecture) for architecture, _ in accuracies]))
        networks = np.array([numbers[architecture] for architecture, _ in accuracies])
        return self.with_kind(x, np.array([kind for _, kind in accuracies])), np.array(list(accuracies.values())), networks

    def accuracy_names(self) -> list[str]:
        """The columns of what accuracy is learned from."""
        return [*feature_names(self.space), *(" ".join(kind) for kind in self._kinds[1:])]

    @property
    def _kinds(self) -> list[tuple[str, str, str]]:
        """What of the runs makes a difference to accuracy: runtime, precision and provider, each once."""
        return list(dict.fromkeys((run.runtime, run.precision, run.provider) for run in self.runs))

    def kind(self, run: Run) -> int:
        """Number of the run's kind."""
        return self._kinds.index((run.runtime, run.precision, run.provider))

    def with_kind(self, x: np.ndarray, kinds: np.ndarray) -> np.ndarray:
        """(n, features) and the kind of each row's run -> a column more for every kind but the first."""
        return np.column_stack([x, kinds[:, None] == np.arange(1, len(self._kinds))])


@dataclass(frozen=True)
class Predictors:
    """latency, energy: by index of the run; size, memory: in bytes."""

    learner: Learner
    latency: dict[int, Predictor]
    accuracy: Predictor
    energy: dict[int, Predictor]
    size: Lines
    memory: Lines

    def predicted(self, names: Sequence[ObjectiveName] = DEFAULT) -> Predicted:
        """The objectives of any deployments (`DeploymentSpace`), and how far off they may be."""
        return Predicted(lambda x: self.mean(x, names), lambda x: self.spread(x, names))

    def mean(self, genotypes: np.ndarray, names: Sequence[ObjectiveName] = DEFAULT) -> np.ndarray:
        """(n, genes) -> (n, m), in the units of `OBJECTIVES`."""
        tell: dict[ObjectiveName, Told] = {
            "latency": lambda x: self._of_run(x, self.latency, Predictor.predict, NEVER_MS),
            "energy": lambda x: self._of_run(x, self.energy, Predictor.predict, NEVER_MS),
            "accuracy": lambda x: 1 - self.accuracy.predict(self._of_kind(x)),
            "size": self.size.predict,
            "memory": self.memory.predict,
            "macs": self.learner.macs,
        }
        found = np.column_stack([tell[name](genotypes) for name in names])
        unknown = ~np.isin(genotypes[:, -1], list(self.latency))
        for column, name in enumerate(names):
            if name != "accuracy":  # a run that cannot be measured is not proposed, however small its files would be
                found[unknown, column] = NEVER_MS
        return found

    def spread(self, genotypes: np.ndarray, names: Sequence[ObjectiveName] = DEFAULT) -> np.ndarray:
        """The errors' standard deviations, (n, genes) -> (n, m)."""
        tell: dict[ObjectiveName, Told] = {
            "latency": lambda x: self._of_run(x, self.latency, Predictor.spread, 0.0),
            "energy": lambda x: self._of_run(x, self.energy, Predictor.spread, 0.0),
            "accuracy": lambda x: self.accuracy.spread(self._of_kind(x)),
            "size": self.size.spread,
            "memory": self.memory.spread,
            "macs": lambda x: np.zeros(len(x)),
        }
        return np.column_stack([tell[name](genotypes) for name in names])

    def promises(self, genotypes: np.ndarray) -> list[Promise | None]:
        """Latency and accuracy with their 90% intervals, (n, genes) -> n; None in runs that have no predictor."""
        latency_ms = self._of_run(genotypes, self.latency, Predictor.predict, NEVER_MS)
        ends_ms = [
            self._of_run(genotypes, self.latency, lambda predictor, x, end=end: predictor.interval(x)[end], NEVER_MS)  # type: ignore[misc]
            for end in (0, 1)
        ]
        x = self._of_kind(genotypes)
        accuracy, ends = self.accuracy.predict(x), self.accuracy.interval(x)
        columns = (latency_ms, *ends_ms, accuracy, *ends)
        rows = np.column_stack(columns).tolist()
        return [
            None if took == NEVER_MS else Promise(took, right, (fastest, slowest), (worst, best))
            for took, fastest, slowest, right, worst, best in rows
        ]

    def _of_run(
        self,
        genotypes: np.ndarray,
        predictors: dict[int, Predictor],
        tell: Callable[[Predictor, np.ndarray], np.ndarray],
        unknown: float,
    ) -> np.ndarray:
        """What the predictor of each one's run tells, (n,); ``unknown`` in runs that have none."""
        x, runs = self.learner.features(genotypes[:, :-1]), genotypes[:, -1]
        found = np.full(len(genotypes), unknown)
        for index, predictor in predictors.items():
            if (runs == index).any():
                found[runs == index] = tell(predictor, x[runs == index])
        return found

    def _of_kind(self, genotypes: np.ndarray) -> np.ndarray:
        kinds = np.array([self.learner.kind(run) for run in self.learner.runs])[genotypes[:, -1].astype(np.int64)]
        return self.learner.with_kind(self.learner.features(genotypes[:, :-1]), kinds)

    def save(self, folder: Path, points: list[Point], **made_for: Any) -> None:
        """Write them with the keys of the measurements that they were made from, and what they may be used for: ``made_for``
        (device, host, super-network), and what is learned from."""
        learner = self.learner
        made_for |= learner.to_json()
        for name, predictors in (("latency", self.latency), ("energy", self.energy)):
            for index, predictor in predictors.items():
                run = learner.runs[index]
                keys = [point.measurement.key for point in points if point.run == run]
                own = {**made_for, "run": list(run), "statistic": learner.statistic}
                predictor.save(folder, f"{name}-{'-'.join(map(str, run))}", keys, own)
        self.accuracy.save(folder, "accuracy", [point.measurement.key for point in points], made_for)
