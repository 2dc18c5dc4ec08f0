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
from instatune_deploy.predict.shared import Shared
from instatune_deploy.search.base import Constraints, Predicted
from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.supernet.shape import ModelShape
from instatune_deploy.supernet.space import SearchSpace
from instatune_deploy.words import counted

NEVER_MS = 1e9
"""Every cost of a run with too few believed measurements to learn from: it is not proposed."""
OVERHEAD = 0.1
"""What a network takes beside its MACs, as a share of the full one's; only to tell how runs compare."""


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
        for run in self.runs:
            found = [latency_ms(point, self.statistic) for point in points if point.run == run]
            if len(found) >= MIN_MEASUREMENTS and len(set(found)) == 1:
                raise BadInput(f"all {len(found)} latencies measured in {run} are {found[0]:g} ms: these are no measurements")
        latency = self._shared(points, "latency")
        x, y, networks = self.accuracy_sample(points)
        accuracy = Predictor.fit(x, y, self.accuracy_names(), relative=False, seed=self.seed, groups=networks)
        energy = self._shared(points, "energy") if "energy" in names else None
        return Predictors(self, latency, accuracy, energy, self.lines(points, "size"), self.lines(points, "memory"))

    def _shared(self, points: list[Point], name: ObjectiveName) -> Shared:
        """One predictor for all runs; runtime, precision, provider and threads are categories of it."""
        genotypes = np.array([self.space.encode(point.architecture) for point in points])
        descriptions, described = self._described()
        return Shared.fit(
            self.features(genotypes),
            objectives(points, self.statistic, (name,))[:, 0],
            np.array([self.runs.index(point.run) for point in points]),
            feature_names(self.space),
            # every layer costs something beside its MACs
            cost=self.space.macs(genotypes, self.shape, self.tokens) / self.shape.macs_of(self.space.largest(), self.tokens)
            + OVERHEAD,
            described=described,
            descriptions=descriptions,
            groups=_numbered([point.architecture for point in points]),
            seed=self.seed,
        )

    def _described(self) -> tuple[list[str], np.ndarray]:
        """What tells the runs apart, a name for each column, and (runs, columns): 1 where it is so."""
        said = [{run.runtime, run.precision, run.provider, counted(run.threads, "thread")} for run in self.runs]
        names = sorted(set.union(*said))
        return names, np.array([[float(name in of_run) for name in names] for of_run in said])

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
        for statistic, limit_ms in budget.also_ms:
            told, times = self._expected(points, "latency", fit or self.fit), self._times(points, statistic)
            columns.append(lambda x, told=told, times=times, limit_ms=limit_ms: told(x) * times / limit_ms - 1)  # type: ignore[misc]
        return (lambda x: np.column_stack([column(x) for column in columns])) if columns else None

    def _times(self, points: list[Point], statistic: Statistic) -> float:
        """How many times the latency that is learned another percentile of it is, by experience."""
        return float(np.median([latency_ms(point, statistic) / latency_ms(point, self.statistic) for point in points] or [1.0]))

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
        return self.space.macs(genotypes[:, :-1], self.shape, self.tokens)

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

    def accuracy_sample(self, points: list[Point]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Features, accuracies and which network each is of; every network once in every runtime and precision, on however
        many threads it was run."""
        accuracies = {(point.architecture, self.kind(point.run)): point.accuracy for point in points}
        x = self.features(np.array([self.space.encode(architecture) for architecture, _ in accuracies]))
        networks = _numbered([architecture for architecture, _ in accuracies])
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
    """latency, energy: kinds are the indices of the runs; size, memory: in bytes."""

    learner: Learner
    latency: Shared
    accuracy: Predictor
    energy: Shared | None
    size: Lines
    memory: Lines

    def predicted(self, names: Sequence[ObjectiveName] = DEFAULT) -> Predicted:
        """The objectives of any deployments (`DeploymentSpace`), and how far off they may be."""
        return Predicted(lambda x: self.mean(x, names), lambda x: self.spread(x, names))

    def mean(self, genotypes: np.ndarray, names: Sequence[ObjectiveName] = DEFAULT) -> np.ndarray:
        """(n, genes) -> (n, m), in the units of `OBJECTIVES`."""
        tell: dict[ObjectiveName, Told] = {
            "latency": lambda x: self._of_run(x, self.latency, Shared.predict, NEVER_MS),
            "energy": lambda x: self._of_run(x, self.energy, Shared.predict, NEVER_MS),
            "accuracy": lambda x: 1 - self.accuracy.predict(self._of_kind(x)),
            "size": self.size.predict,
            "memory": self.memory.predict,
            "macs": self.learner.macs,
        }
        found = np.column_stack([tell[name](genotypes) for name in names])
        unknown = ~np.isin(genotypes[:, -1], self.latency.known)
        for column, name in enumerate(names):
            if name != "accuracy":  # a run that cannot be measured is not proposed, however small its files would be
                found[unknown, column] = NEVER_MS
        return found

    def spread(self, genotypes: np.ndarray, names: Sequence[ObjectiveName] = DEFAULT) -> np.ndarray:
        """The errors' standard deviations, (n, genes) -> (n, m)."""
        tell: dict[ObjectiveName, Told] = {
            "latency": lambda x: self._of_run(x, self.latency, Shared.spread, 0.0),
            "energy": lambda x: self._of_run(x, self.energy, Shared.spread, 0.0),
            "accuracy": lambda x: self.accuracy.spread(self._of_kind(x)),
            "size": self.size.spread,
            "memory": self.memory.spread,
            "macs": lambda x: np.zeros(len(x)),
        }
        return np.column_stack([tell[name](genotypes) for name in names])

    def promises(self, genotypes: np.ndarray) -> list[Promise | None]:
        """Latency and accuracy with their 90% intervals, (n, genes) -> n; None in runs that have no predictor."""
        latency_ms = self._of_run(genotypes, self.latency, Shared.predict, NEVER_MS)
        ends_ms = [
            self._of_run(genotypes, self.latency, lambda shared, x, runs, end=end: shared.interval(x, runs)[end], NEVER_MS)  # type: ignore[misc]
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
        shared: Shared | None,
        tell: Callable[[Shared, np.ndarray, np.ndarray], np.ndarray],
        unknown: float,
    ) -> np.ndarray:
        """What the predictor tells of each in its run, (n,); ``unknown`` in runs that it knows nothing of."""
        found, runs = np.full(len(genotypes), unknown), genotypes[:, -1].astype(np.int64)
        if shared is not None and (known := np.isin(runs, shared.known)).any():
            found[known] = tell(shared, self.learner.features(genotypes[known, :-1]), runs[known])
        return found

    def _of_kind(self, genotypes: np.ndarray) -> np.ndarray:
        kinds = np.array([self.learner.kind(run) for run in self.learner.runs])[genotypes[:, -1].astype(np.int64)]
        return self.learner.with_kind(self.learner.features(genotypes[:, :-1]), kinds)

    def save(self, folder: Path, points: list[Point], **made_for: Any) -> None:
        """Write them with the keys of the measurements that they were made from, and what they may be used for: ``made_for``
        (device, host, super-network), and what is learned from."""
        learner = self.learner
        made_for |= learner.to_json()
        keys = [point.measurement.key for point in points]
        for name, shared in (("latency", self.latency), ("energy", self.energy)):
            if shared is not None:
                shared.save(folder, name, keys, {**made_for, "statistic": learner.statistic})
        self.accuracy.save(folder, "accuracy", keys, made_for)


def _numbered(architectures: Sequence[Architecture]) -> np.ndarray:
    """(n,) int: which network each is; equal ones have one number."""
    numbers = {architecture: number for number, architecture in enumerate(dict.fromkeys(architectures))}
    return np.array([numbers[architecture] for architecture in architectures], dtype=np.int64)
