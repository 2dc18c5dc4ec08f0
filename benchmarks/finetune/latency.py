"""Latency of members and of pruned models: ONNX Runtime, fp32, one thread, one text of 128 tokens or one image (`generic-cpu`).

Measured by the project's own protocol in a process of its own. What the weights say makes no difference, so every shape is
measured once for all seeds, subjects and recipes, and kept for this host, runtime, kind of graph and protocol of measuring.
Let nothing else run meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import click

from benchmarks.families import TEXT, Family
from benchmarks.finetune.choice import Figures
from benchmarks.finetune.subjects import pipeline
from benchmarks.profile.passes import Graphs, measured
from benchmarks.profile.setup import Subject, device, subject
from instatune_deploy.devices.deployment import Measurement
from instatune_deploy.devices.profile import Device
from instatune_deploy.devices.reference import reference_key
from instatune_deploy.devices.runs import Run
from instatune_deploy.devices.runtimes.modules import version_for
from instatune_deploy.devices.store import MeasurementStore
from instatune_deploy.digests import digest
from instatune_deploy.files import read_json, write_json
from instatune_deploy.graphs.template import Template
from instatune_deploy.pipeline.supernet import GRAPHS_REVISION
from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.supernet.network import SuperNetwork
from instatune_deploy.tasks.base import TOKENS

STATISTIC = "p50"
"""The steadiest: what is compared are shapes on one quiet host, not promises."""
PASSES = 4
AT_ONCE = 10
QUICK_TIMING = {"window_ms": 1.0, "min_runs_per_window": 1, "reference_ms": 1.0, "max_warmup_windows": 2, "max_windows": 3}


class _Narrow(Subject):
    """A super-network of another hidden size, which its number of heads may not divide."""

    @cached_property
    def plain(self) -> Template:
        # the runtime's fusions insist on a size that heads divide, and make nothing of it: attention is fused before
        template = super().plain
        shape = template.shape
        return replace(template, shape=replace(shape, hidden_size=shape.heads * shape.head_size))


@dataclass(frozen=True)
class Latencies:
    """Latency by shape, measured when it is first asked for.

    quick: windows of a millisecond, whatever else the host does; the figures mean nothing
    """

    work: Path
    quick: bool = False
    family: Family = TEXT

    @cached_property
    def made(self) -> Subject:
        """The pre-trained model as a super-network of the space that is trained."""
        return subject(pipeline(self.family.tiny if self.quick else self.family.subjects[0], {}, self.work))

    @cached_property
    def device(self) -> Device:
        """This host, as the profile runs it."""
        found = device("generic-cpu", 1)
        return replace(found, timing=found.timing.model_copy(update=QUICK_TIMING)) if self.quick else found

    @property
    def run(self) -> Run:
        """The one way of running."""
        return next(run for run in self.device.runs if (run.runtime, run.precision) == ("onnxruntime", "fp32"))

    def of(self, architectures: Sequence[Architecture], network: SuperNetwork | None = None) -> Figures:
        """Median milliseconds of each. ``network``: the one that they are sub-networks of, when it is not the subject's own.

        Raises ClickException when the host is too busy for figures that can be believed.
        """
        made = self.made if network is None else _Narrow(self.made.inputs, network, self.made.space)
        hidden_size, kind = made.network.shape.hidden_size, kind_of(made)
        known: dict[str, Any] = read_json(self.path)["latencies"] if self.path.is_file() else {}
        names = {item: f"{kind}-{item.digest}" for item in architectures}
        for _ in range(PASSES):
            missing = [item for item in names if names[item] not in known]
            for start in range(0, len(missing), AT_ONCE):
                for item in self._measure(made, missing[start : start + AT_ONCE]):
                    if item.timing is not None and (item.believed or self.quick):
                        architecture = item.deployment.architecture
                        said = {"p50_ms": item.timing.p50_ms, "p90_ms": item.timing.p90_ms}
                        known[names[architecture]] = {"network": str(architecture), "hidden_size": hidden_size, **said}
                self._keep(known)
        lost = [str(item) for item in names if names[item] not in known]
        if lost:
            raise click.ClickException(
                f"{len(lost)} latencies are not to be believed, {lost[0]} among them: the host is too busy"
            )
        return {item: known[name][f"{STATISTIC}_ms"] for item, name in names.items()}

    @property
    def path(self) -> Path:
        """Figures of other hosts, runtimes, graphs and ways of timing lie beside it."""
        timing = digest(self.device.timing.model_dump(mode="json"))[:8]
        made_by = f"{version_for(self.run)}-graphs{GRAPHS_REVISION}-{timing}"
        return self.work / f"latency-{self.device.host.fingerprint[:12]}-{made_by}.json"

    def _keep(self, known: dict[str, Any]) -> None:
        run, version = str(self.run), version_for(self.run)
        write_json(self.path, {"host": self.device.host.describe(), "run": run, "version": version, "latencies": known})

    def _measure(self, made: Subject, architectures: Sequence[Architecture]) -> list[Measurement]:
        tell: Callable[[str], None] = lambda text: click.echo(f"latency, {text}", err=True)  # noqa: E731
        templates = self.work / "templates" / f"{made.inputs.model_sha256[:12]}-{GRAPHS_REVISION}-{kind_of(made)}"
        device = made.inputs.on(self.device)
        with MeasurementStore(self.work / "latency.sqlite") as store:
            if self.quick:
                self._pretend_quiet(store)
            graphs = Graphs.of(made, self.run, templates)
            return measured(made, graphs, architectures, device, self.run, store, tell).measurements

    def _pretend_quiet(self, store: MeasurementStore) -> None:
        """A smoke run does not wait for a quiet host to say its speed."""
        version, host = version_for(self.run), self.device.host.fingerprint
        key = reference_key(self.run, version, host)
        if store.find_reference(key) is None:
            store.add_reference(
                key, device=self.device.name, run=self.run, host=host, version=version, nominal_ms=1.0, again=False
            )


def kind_of(made: Subject) -> str:
    """What tells its graphs from others of the same architectures."""
    shape = made.network.shape
    images = "" if made.inputs.task.unit == TOKENS else f"{shape.family}-{made.tokens}-"
    return f"{images}{shape.hidden_size}"
