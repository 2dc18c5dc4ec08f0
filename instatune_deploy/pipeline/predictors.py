"""Stage *predict*: what is learned of a device's deployments from those that were measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from instatune_deploy.budget import Budget
from instatune_deploy.config import Statistic
from instatune_deploy.devices.runs import Run
from instatune_deploy.errors import BadInput
from instatune_deploy.pipeline.bench import Point
from instatune_deploy.pipeline.results import objectives
from instatune_deploy.predict.features import feature_names, features
from instatune_deploy.predict.predictor import MIN_MEASUREMENTS, Predictor
from instatune_deploy.search.base import Constraints, Predicted
from instatune_deploy.supernet.shape import ModelShape, present
from instatune_deploy.supernet.space import SearchSpace

Sample = tuple[np.ndarray, np.ndarray]
"""x: (n, features), y: (n,)."""
NEVER_MS = 1e9
"""Latency of a run with too few believed measurements to learn from: it is not proposed."""


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

    def fit(self, points: list[Point]) -> Predictors:
        """Latency in every run with enough measurements, and accuracy. ``BadInput`` for measurements that say nothing."""
        names, latency = feature_names(self.space), {}
        for index, run in enumerate(self.runs):
            if sum(point.run == run for point in points) >= MIN_MEASUREMENTS:
                x, y = self.latency_sample(points, run)
                if len(np.unique(y)) == 1:
                    raise BadInput(f"all {len(y)} latencies measured in {run} are {y[0]:g} ms: these are no measurements")
                latency[index] = Predictor.fit(x, y, names, relative=True, seed=self.seed)
        x, y, networks = self.accuracy_sample(points)
        accuracy = Predictor.fit(x, y, self.accuracy_names(), relative=False, seed=self.seed, groups=networks)
        return Predictors(self, latency, accuracy)

    def exceeded(self, points: list[Point], budget: Budget) -> Constraints | None:
        """By which share of it the budget's MACs and size are exceeded; None when it limits neither. Genotypes as in
        `DeploymentSpace`."""
        columns: list[Callable[[np.ndarray], np.ndarray]] = []
        if budget.macs is not None:
            most = budget.macs
            columns.append(lambda x: self.shape.macs(*self.space.sizes(x[:, :-1]), self.tokens) / most - 1)
        if budget.size_bytes is not None:
            size_bytes, largest = self.size_bytes(points), budget.size_bytes
            columns.append(lambda x: size_bytes(x) / largest - 1)
        return (lambda x: np.column_stack([column(x) for column in columns])) if columns else None

    def size_bytes(self, points: list[Point]) -> Callable[[np.ndarray], np.ndarray]:
        """What says how many bytes the graphs' files take, (n, genes of a deployment) -> (n,), from those of ``points``.

        A straight line in parameters, layers and sub-layers, for each runtime and precision its own; where too few were
        measured to know it, it is 0.
        """
        lines = {}
        for kind in range(len(self._kinds)):
            sizes = {point.architecture: point.measurement.size_bytes for point in points if self.kind(point.run) == kind}
            if len(sizes) >= MIN_MEASUREMENTS:
                x = self._parts(np.array([self.space.encode(architecture) for architecture in sizes]))
                lines[kind] = np.linalg.lstsq(x, np.array(list(sizes.values()), dtype=float), rcond=None)[0]
        kinds = np.array([self.kind(run) for run in self.runs])

        def of(genotypes: np.ndarray) -> np.ndarray:
            found, own = np.zeros(len(genotypes)), kinds[genotypes[:, -1].astype(np.int64)]
            for kind, weights in lines.items():
                found[own == kind] = self._parts(genotypes[own == kind, :-1]) @ weights
            return found

        return of

    def _parts(self, genotypes: np.ndarray) -> np.ndarray:
        """What a graph is made of, (n, 5), in numbers of about the same size."""
        heads, widths = self.space.sizes(genotypes)
        parameters = self.shape.parameters(heads, widths) / self.shape.parameters_of(self.shape.full())
        counts = [(heads > 0).sum(axis=1), (widths > 0).sum(axis=1), present(heads, widths).sum(axis=1)]
        return np.column_stack([np.ones(len(genotypes)), parameters, *counts])

    def features(self, genotypes: np.ndarray) -> np.ndarray:
        """(n, genes of an architecture) -> (n, features)."""
        return features(self.space, self.shape, genotypes, self.tokens)

    def latency_sample(self, points: list[Point], run: Run) -> Sample:
        """Features and latencies (ms) of one way of running."""
        chosen = [point for point in points if point.run == run]
        x = self.features(np.array([self.space.encode(point.architecture) for point in chosen]))
        return x, objectives(chosen, self.statistic)[:, 0]

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
    """latency: by index of the run."""

    learner: Learner
    latency: dict[int, Predictor]
    accuracy: Predictor

    def predicted(self) -> Predicted:
        """Latency (ms) and error (1 - accuracy) of any deployments (`DeploymentSpace`), and how far off they may be."""
        return Predicted(self._mean, self._spread)

    def _mean(self, genotypes: np.ndarray) -> np.ndarray:
        latency, accuracy = self._told(genotypes, Predictor.predict, NEVER_MS)
        return np.column_stack([latency, 1 - accuracy])

    def _spread(self, genotypes: np.ndarray) -> np.ndarray:
        return np.column_stack(self._told(genotypes, Predictor.spread, 0.0))

    def _told(
        self, genotypes: np.ndarray, tell: Callable[[Predictor, np.ndarray], np.ndarray], unknown_ms: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """What the predictors tell of latency and of accuracy, (n,) each; ``unknown_ms`` in runs that have none."""
        x, runs = self.learner.features(genotypes[:, :-1]), genotypes[:, -1]
        milliseconds = np.full(len(genotypes), unknown_ms)
        for index, predictor in self.latency.items():
            if (runs == index).any():
                milliseconds[runs == index] = tell(predictor, x[runs == index])
        return milliseconds, tell(self.accuracy, self._of_kind(x, runs))

    def _of_kind(self, x: np.ndarray, runs: np.ndarray) -> np.ndarray:
        kinds = np.array([self.learner.kind(run) for run in self.learner.runs])[runs.astype(np.int64)]
        return self.learner.with_kind(x, kinds)

    def save(self, folder: Path, points: list[Point], **made_for: Any) -> None:
        """Write them with the keys of the measurements that they were made from, and what they may be used for: ``made_for``
        (device, host, super-network), and what is learned from."""
        learner = self.learner
        made_for |= learner.to_json()
        for index, predictor in self.latency.items():
            run = learner.runs[index]
            keys = [point.measurement.key for point in points if point.run == run]
            own = {**made_for, "run": list(run), "statistic": learner.statistic}
            predictor.save(folder, f"latency-{'-'.join(map(str, run))}", keys, own)
        self.accuracy.save(folder, "accuracy", [point.measurement.key for point in points], made_for)
