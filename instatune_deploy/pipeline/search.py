"""Stages *profile*, *predict* and *search*: measure, learn, propose, measure again, until the front stands still."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from instatune_deploy.budget import Budget
from instatune_deploy.config import ObjectiveName, ProfileSettings, SearchSettings, Statistic
from instatune_deploy.devices.profile import Device
from instatune_deploy.devices.runs import Run
from instatune_deploy.devices.space import DeploymentSpace
from instatune_deploy.digests import digest
from instatune_deploy.errors import BadInput, TooNoisy
from instatune_deploy.pipeline.bench import Bench, Point
from instatune_deploy.pipeline.objectives import chosen_by, in_order, latency_ms, limits, objectives
from instatune_deploy.pipeline.predictors import Learner, Predictors
from instatune_deploy.pipeline.results import (
    SearchResult,
    honesty_lines,
    keeps,
    noise_of,
    quality_lines,
    ranked,
    upper_ms,
)
from instatune_deploy.pipeline.training import packages_of, versions_of
from instatune_deploy.predict.predictor import MIN_MEASUREMENTS
from instatune_deploy.search.base import Constraints, Predicted
from instatune_deploy.search.design import spread_over_cost
from instatune_deploy.search.strategies import STRATEGIES, Search
from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.supernet.space import SearchSpace
from instatune_deploy.terminal import Advance, Terminal

FULL_DESIGN = 3
FORM = 2
"""Of what is kept of a search; 2 keeps what was predicted with its intervals."""
ALWAYS = 2
"""The full and the smallest network come first in a design."""


@dataclass(frozen=True)
class Searcher:
    """Searches one device's deployments under a budget."""

    bench: Bench
    settings: SearchSettings
    budget: Budget | None
    seed: int
    terminal: Terminal
    _made: dict[tuple[str, ...], Predictors] = field(default_factory=dict)

    @property
    def device(self) -> Device:
        """The device that is searched for."""
        return self.bench.device

    @property
    def statistic(self) -> Statistic:
        """The latency statistic that counts: the budget's, else the profile's."""
        return (self.budget and self.budget.statistic) or self.device.statistic

    def design(self) -> np.ndarray:
        """What is measured first, (n, genes): spread over MACs, and the full and the smallest network in every run.

        With up to `FULL_DESIGN` runs every architecture is measured in every one, with more of them each run has its share.
        """
        space, shape = self.architectures, self.bench.supernet.shape

        def macs(genotypes: np.ndarray) -> np.ndarray:
            return space.macs(genotypes, shape, self.device.sequence_length)

        chosen = spread_over_cost(
            space,
            macs,
            self.settings.initial,
            np.random.default_rng(self.seed),
            include=np.array([space.encode(space.largest()), space.encode(space.smallest())]),
            prefer=np.array([space.encode(architecture) for architecture in space.uniform()]),
        )
        share = self.settings.initial * FULL_DESIGN // len(self.device.runs)
        return self.space.shared_out(chosen, ALWAYS, max(MIN_MEASUREMENTS, share))

    def profile(self) -> list[Point]:
        """Measure the design."""
        return self._measure(self.design(), "profile")

    def search(self) -> SearchResult:
        """The whole loop. Deterministic for a seed and a store: what the store knows is not measured again."""
        names, budget = self.objectives, self.budget or Budget()
        result = SearchResult([], names=names)
        made: Predictors | None = None

        def fit(*_: np.ndarray) -> Predicted:
            nonlocal made
            made = self._predictors(result.points)
            return made.predicted(names)

        limited: dict[int, Constraints | None] = {}

        def also(genotypes: np.ndarray) -> np.ndarray:
            if len(result.points) not in limited:  # once a round
                aimed = self._aimed(budget, result.points)
                limited[len(result.points)] = self.learner.exceeded(result.points, aimed, names, self._predictors)
            constraints = limited[len(result.points)]
            assert constraints is not None
            return constraints(genotypes)

        others = self.learner.exceeded([], budget, names)
        allowed = limits(budget, names)
        made_from = Search(
            self.space,
            self.design(),
            allowed,
            fit,
            self.settings,
            self.seed,
            also if others else None,
            names.index(chosen_by(budget, names)),
            self._shapes(),
        )
        strategy = STRATEGIES[self.settings.strategy](made_from)
        number = 0
        while (asked := strategy.ask()) is not None:
            number += 1
            promises = made.promises(asked) if made is not None else []
            label = "profile" if number == 1 else f"search, round {number - 1}"
            found = self._measure(asked, label, believed_before=len(result.points))
            result.points += found
            for row, promise in zip(asked, promises, strict=False):
                if promise is not None:
                    result.predicted[self.space.decode(row)] = promise
            strategy.tell(
                np.array([self.space.encode(point.architecture, point.run) for point in found]).reshape(-1, asked.shape[1]),
                objectives(found, self.statistic, names),
            )
            if budget.limit_ms is not None and "latency" in names:
                strategy.limits[names.index("latency")] = self._aimed(budget, result.points).limit_ms
            self._report_round(result)
            if strategy.predicts and not self.learner.enough(result.points):
                if len(found) < len(asked):
                    missing = MIN_MEASUREMENTS - len({point.architecture for point in result.points})
                    raise self._too_noisy(len(asked) - len(found), len(asked), missing)
                break  # the space has no more, and all of it is measured
        result.volumes = strategy.volumes
        full = self.architectures.largest()
        if all(point.architecture != full for point in result.points):
            # not kept: everything is compared with the full model, and a later run may find it
            raise TooNoisy(
                f"device '{self.device.name}': the full model's latency could not be believed; run again when it is quiet"
            )
        self._judge(result)
        return result

    def _aimed(self, budget: Budget, points: list[Point]) -> Budget:
        """What is chosen must keep the budget with the upper confidence limit of its latency: aim as much below it."""
        if budget.limit_ms is None or not points:
            return budget

        def margin(statistic: Statistic) -> float:
            return float(np.median([upper_ms(point, statistic) / latency_ms(point, statistic) for point in points]))

        also_ms = tuple((statistic, limit_ms / margin(statistic)) for statistic, limit_ms in budget.also_ms)
        return replace(budget, limit_ms=budget.limit_ms / margin(self.statistic), also_ms=also_ms)

    def _shapes(self) -> np.ndarray:
        """Members whose layers are all alike, in every run, (n, genes): super-networks are trained on these most often."""
        members = self.architectures.uniform()
        shapes = [self.space.encode(architecture, run) for architecture in members for run in self.device.runs]
        return np.array(shapes, dtype=np.int64).reshape(len(shapes), len(self.space.choices))

    @property
    def objectives(self) -> tuple[ObjectiveName, ...]:
        """What the front is of, in the order that the search has them."""
        return in_order(self.settings.objectives)

    @property
    def architectures(self) -> SearchSpace:
        """What of the super-network's space the device is searched in."""
        return self.bench.architectures

    @property
    def space(self) -> DeploymentSpace:
        """What is searched: `design` is rows of it."""
        return DeploymentSpace(self.architectures, self.device.runs)

    @property
    def learner(self) -> Learner:
        """What makes the device's predictors."""
        runs, shape = self.device.runs, self.bench.supernet.shape
        return Learner(self.architectures, shape, self.device.sequence_length, runs, self.statistic, self.seed)

    def _predictors(self, points: list[Point]) -> Predictors:
        """Those of ``points``, made once."""
        made_from = tuple(point.measurement.key for point in points)
        if made_from not in self._made:
            self._made.clear()
            self._made[made_from] = self.learner.fit(points, self.objectives)
        return self._made[made_from]

    def _measure(self, genotypes: np.ndarray, label: str, believed_before: int = 0) -> list[Point]:
        wanted = [self.space.decode(row) for row in genotypes]
        refused: list[str] = []
        fresh = sum(not self.bench.known(*item) for item in wanted)
        self.terminal.stage(f"{label}: {len(wanted)} deployments, {fresh} of them not measured before")
        points = []
        with self.terminal.progress(len(wanted), "measured") as advance:
            for number, (architecture, run) in enumerate(wanted, 1):
                point = self.bench.point(architecture, run)
                if point is not None:
                    points.append(point)
                else:
                    refused += self._refused(architecture, run)
                self._advance(advance, number, point)
        lost = len(wanted) - len(points)
        if lost:
            self.terminal.result(f"{lost} of {len(wanted)} latencies could not be believed and are left out (the store says why)")
        if lost > believed_before + len(points):
            if len(refused) == lost:  # a quieter host would not help
                raise BadInput(f"device '{self.device.name}': nothing could be run: {refused[-1]}")
            raise self._too_noisy(lost, len(wanted))
        return points

    def _refused(self, architecture: Architecture, run: Run) -> list[str]:
        """Why a deployment could not be run at all, as the store has it; empty when it could."""
        found = self.bench.store.select(graph_hash=self.bench.graph_hash(architecture, run), believed=False, limit=1)
        return [item.why for item in found if item.timing is None and item.why is not None]

    def _too_noisy(self, lost: int, wanted: int, missing: int = 0) -> TooNoisy:
        """missing: how many networks a predictor lacks"""
        too_few = f", {missing} too many for a predictor, which needs {MIN_MEASUREMENTS} networks" if missing else ""
        return TooNoisy(
            f"device '{self.device.name}': {lost} of {wanted} measurements could not be believed{too_few}; "
            "stop what else runs on this host and run again (what was measured is kept)"
        )

    def _advance(self, advance: Advance, number: int, point: Point | None) -> None:
        timing = point and point.measurement.timing
        said = f"{point.run} {timing.statistic_ms(self.statistic):.2f} ms" if point and timing else "not believed"
        advance(number, said)

    def _judge(self, result: SearchResult) -> None:
        """How good the final predictors are on what they have not seen, beside the noise of what they learn."""
        if self.learner.enough(result.points):
            predictors = self._predictors(result.points)
            result.latency_quality = {
                str(self.device.runs[index]): quality for index, quality in predictors.latency.quality.items()
            }
            result.accuracy_quality = predictors.accuracy.quality
            if len({point.accuracy for point in result.points}) == 1:
                alike = f"{result.points[0].accuracy:.1%}"
                self.terminal.result(f"all networks measured are equally accurate ({alike}): the fastest is the best")
        result.noise = float(np.median([noise_of(point, self.statistic) for point in result.points]))
        for text in (*quality_lines(result), *honesty_lines(result, self.statistic)):
            self.terminal.result(text)

    def _report_round(self, result: SearchResult) -> None:
        if any(keeps(point, self.budget, self.statistic) for point in result.points):
            top = ranked(result, self.budget, self.statistic)[0]
            what = "fastest" if self.budget and self.budget.accuracy is not None else "most accurate"
            what = f"{what} within {self.budget}" if self.budget else what
            self.terminal.result(f"{what} so far: {top.accuracy:.1%} at {latency_ms(top, self.statistic):.2f} ms ({top.run})")

    def save_predictors(self, points: list[Point], folder: Path) -> None:
        """Write the predictors of ``points``, if these are enough to make any."""
        if self.learner.enough(points):
            made_for = {"device": self.device.name, "host": self.device.host.fingerprint, "supernet": self.bench.supernet.key}
            self._predictors(points).save(folder, points, **made_for)

    def key(self) -> str:
        """Everything a search's result depends on: what it starts from, settings, host, versions. Noise is not to be named."""
        device, embedding = self.device, self.bench.inputs.embedding
        return digest(
            {
                "supernet": self.bench.supernet.key,
                "profile": _profile(device.settings),
                "host": device.host.fingerprint,
                "tokens": device.sequence_length,
                "runs": device.runs,
                "settings": self.settings.model_dump(),
                "budget": self.budget and asdict(self.budget),
                "seed": self.seed,
                "form": FORM,
                "versions": versions_of(*packages_of(device.runs), "catboost", "pymoo", "scikit-learn"),
                **({} if embedding is None else {"embedding": embedding.key(device.size)}),
            }
        )[:16]


def _profile(settings: ProfileSettings) -> dict[str, Any]:
    """What of a hardware profile a search depends on. A size of images that is not said is left out: searches of before stay."""
    said = settings.model_dump(exclude={"description", "tried_on"})
    return {name: value for name, value in said.items() if name != "image_size" or value is not None}
