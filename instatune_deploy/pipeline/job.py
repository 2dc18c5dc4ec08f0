"""The flow from a pipeline file to artifacts, one stage after the other, for one device or several."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from instatune_deploy.budget import Budget
from instatune_deploy.config import PipelineSettings
from instatune_deploy.devices.store import open_store
from instatune_deploy.errors import BadInput, UserError, clear_os_errors
from instatune_deploy.files import check_writable, write_text
from instatune_deploy.pipeline.embedding import Embedding
from instatune_deploy.pipeline.handover import Handover
from instatune_deploy.pipeline.inputs import PipelineInputs, load_inputs
from instatune_deploy.pipeline.targets import Target, load_pipeline_or_matrix, targets_of, targets_of_matrix
from instatune_deploy.pipeline.told import check_told, told_by_hosts
from instatune_deploy.report.builds import JSON, JUNIT, MARKDOWN, Build, texts
from instatune_deploy.terminal import Terminal

if TYPE_CHECKING:
    from instatune_deploy.artifact.manifest import Manifest
    from instatune_deploy.devices.measure import Laboratory
    from instatune_deploy.devices.profile import Device
    from instatune_deploy.pipeline.search import Searcher
    from instatune_deploy.pipeline.supernet import Supernet

INTERNAL = 1


@dataclass(frozen=True)
class Job:
    """What the command line asked for, checked as far as that takes no time.

    again:  measure anew what the store knows already
    store:  file or database URL of the measurements; None is the file in ``work``
    matrix: whether the targets come from a matrix file; then a summary is written
    """

    settings: PipelineSettings
    targets: tuple[Target, ...]
    handover: Handover
    work: Path
    seed: int
    terminal: Terminal
    again: bool = False
    store: str | None = None
    matrix: bool = False
    builds: list[Build] = field(default_factory=list)
    """Of `run`, in the order of the targets."""

    @classmethod
    def of(
        cls,
        pipeline: str,
        devices: tuple[str, ...],
        budget: Budget | None,
        handover: Handover,
        work: Path,
        seed: int,
        terminal: Terminal,
        again: bool = False,
        store: str | None = None,
    ) -> Job:
        """``BadInput`` for an unknown pipeline or device, one that this host does not serve, or an unwritable folder."""
        settings, matrix = load_pipeline_or_matrix(pipeline)
        if matrix is None:
            targets = targets_of(devices, budget, handover)
        else:
            targets = targets_of_matrix(matrix, devices, budget, handover)
        names = [target.name for target in targets]
        handover.check(names)
        # a matrix may have grown by a device; that nothing is compared stands in its summary
        if matrix is None and handover.gate is not None and names:
            handover.gate.check_names(names)
        targets = [_told(target, settings, several=matrix is not None) for target in targets]
        check_writable(work)
        if targets:
            check_writable(handover.output)
            # what is wrong with the store is found before the training, not after it
            open_store(work, store, create=True).close()
        return cls(settings, tuple(targets), handover, work, seed, terminal, again, store, matrix is not None)

    @property
    def devices(self) -> list[Device]:
        """Those of the targets that this host serves."""
        return [target.device for target in self.targets if target.device is not None]

    def finetune(self) -> None:
        """Stages supernet and finetune."""
        self.prepare()

    def profile(self) -> None:
        """... and measure the first design on every device."""
        self._each_target(lambda target, searcher: searcher.profile())

    def search(self) -> None:
        """... and search every device's front."""
        self._each_target(self._search)

    def run(self) -> None:
        """... and hand over an artifact for every target. One that fails does not keep the next from its turn."""
        if not self.matrix:
            return self._each_target(self._deploy)
        why: BaseException | None = None
        try:
            self._each_target(self._deploy)
        except BaseException as error:
            why = error
            raise
        finally:
            built = {build.name for build in self.builds}
            missing = [_failed(target, why, 0.0) for target in self.targets if target.name not in built]
            folder = self.handover.output
            with clear_os_errors(f"cannot write {folder}"):
                for name, text in texts([*self.builds, *missing]).items():
                    write_text(folder / name, text)
            self.terminal.say(f"summary: {folder / MARKDOWN}, {JSON}, {JUNIT}")

    def _search(self, target: Target, searcher: Searcher) -> None:
        from instatune_deploy.pipeline.kept import searched
        from instatune_deploy.pipeline.results import ranked
        from instatune_deploy.pipeline.summary import show_front

        result = searched(searcher, self.work)
        show_front(searcher, result)
        ranked(result, searcher.budget, searcher.statistic)  # raises where nothing keeps the budget

    def _deploy(self, target: Target, searcher: Searcher) -> None:
        from instatune_deploy.pipeline.export import export_stage
        from instatune_deploy.pipeline.kept import searched
        from instatune_deploy.pipeline.summary import say_if_full_fits, show_artifact

        start = time.monotonic()
        folder, gate = self.handover.folder(target.name), self.handover.gate
        said: list[str] = []

        def compare(manifest: Manifest) -> None:
            if gate is not None:
                said.append(gate.check(target.name, manifest, before))

        before: Manifest | None = None
        try:
            # read now: its folder may be the one that is written to
            if gate is not None:
                before = gate.before(target.name, alone=len(self.targets) == 1)
                task = searcher.bench.task
                gate.check_alike(before, self.settings.task, task.label_names, searcher.device.name)
            result = searched(searcher, self.work)
            say_if_full_fits(searcher, result)
            exported = export_stage(searcher, result, folder, self.terminal, self.handover.opened, compare)
            show_artifact(searcher, result, exported, self.handover.finish(target.name))
        except UserError as error:
            self.builds.append(_failed(target, error, time.monotonic() - start))
            raise
        for text in said:
            self.terminal.result(f"compared with before: {text}")
        manifest = exported.manifest
        self.builds.append(
            Build(
                name=target.name,
                device=target.asked,
                budget=str(target.budget or ""),
                exit_code=0,
                seconds=round(time.monotonic() - start, 1),
                message="".join(said),
                artifact=str(folder),
                run=str(manifest.deployment.run),
                statistic=searcher.statistic,
                latency_ms=manifest.promised_ms(searcher.statistic),
                full_ms=manifest.baseline.latency_ms,
                validation=manifest.accuracy.validation,
                test=manifest.accuracy.test,
                size_bytes=manifest.size_bytes,
            )
        )

    def prepare(self, elsewhere: tuple[Device, ...] = ()) -> tuple[PipelineInputs, Supernet]:
        """Stages supernet and finetune, and what they leave behind. elsewhere: devices beside those of the targets"""
        self.terminal.stage(f"model {self.settings.model.reference}")
        inputs = load_inputs(self.settings, self.work)
        if closed := [axis for axis in self.handover.opened if axis not in inputs.task.axes]:
            raise BadInput(f"{self.settings.task}: the graph's {closed[0]} cannot be left open; of images only the batch can")
        if self.handover.embeds:
            inputs = replace(inputs, embedding=Embedding.of(self.handover.source, inputs.task))
        counts = ", ".join(f"{count} {split}" for split, count in inputs.task.counts.items())
        self.terminal.result(f"data {self.settings.data.reference}: {counts} rows; labels {', '.join(inputs.task.label_names)}")
        # what a profile says of inputs is refused before a training, not after it
        for text in dict.fromkeys(said for device in (*self.devices, *elsewhere) if (said := inputs.size_note(device))):
            self.terminal.result(text)
        if inputs.embedding is not None:
            height, width = inputs.embedding.source
            others, of = inputs.embedding.other_sizes(), inputs.task.counts["validation"]
            resized = f"; {others} of {of} validation images have another size and are resized to it first" if others else ""
            self.terminal.result(f"the preprocessing is part of the graph, which takes images of {height} x {width} px{resized}")
        for warning in inputs.task.warnings:
            self.terminal.result(warning)
        if inputs.vocabulary is not None:
            self.terminal.result(f"vocabulary: {inputs.vocabulary}")
        from instatune_deploy.pipeline.supernet import finetune_stage

        runs = max((len(device.runs) for device in self.devices), default=1)
        return inputs, finetune_stage(inputs, self.work, self.seed, self.terminal, runs)

    def _each_target(self, stage: Callable[[Target, Searcher], object]) -> None:
        from instatune_deploy.devices.measure import Laboratory

        inputs, supernet = self.prepare()
        failures: list[UserError] = []
        unforeseen: Exception | None = None
        several = self.matrix or len(self.targets) > 1
        with (
            open_store(self.work, self.store, create=True) as store,
            closing(Laboratory(store, self.again, self.work)) as laboratory,
        ):
            for target in self.targets:
                try:
                    if target.device is None:
                        assert target.error is not None
                        raise target.error
                    stage(target, self._searcher(inputs, supernet, target, target.device, laboratory))
                except UserError as error:
                    failures.append(error)
                    if target.name not in {build.name for build in self.builds}:
                        self.builds.append(_failed(target, error, 0.0))
                    if several:
                        self.terminal.say(f"Error: {'target' if self.matrix else 'device'} {target.name}: {error.message}")
                except Exception as error:  # what nobody foresaw must not cost the others their artifacts
                    if not several:
                        raise
                    unforeseen = error
                    self.builds.append(_failed(target, error, 0.0))
                    self.terminal.say(f"Error: {target.name}: {traceback.format_exc()}")
        if unforeseen is not None:
            raise unforeseen
        if failures:
            worst = max(failures, key=lambda failure: failure.exit_code)
            if several:
                what = "targets" if self.matrix else "devices"
                raise type(worst)(f"{len(failures)} of {len(self.targets)} {what} have no result; see above")
            raise worst

    def _searcher(
        self, inputs: PipelineInputs, supernet: Supernet, target: Target, device: Device, laboratory: Laboratory
    ) -> Searcher:
        from instatune_deploy.pipeline.bench import Bench
        from instatune_deploy.pipeline.search import Searcher

        device = inputs.on(device)
        runs = "; ".join(map(str, device.runs))
        called = "" if target.name == device.name else f"{target.name}, "
        self.terminal.stage(f"{called}device {device.name}: {runs}; batch {device.batch_size}, {device.size_text}")
        for skipped in device.skipped:
            self.terminal.result(f"{skipped.run} is left out: this host lacks {', '.join(skipped.missing)}")
        told = told_by_hosts(self.settings.search.objectives, target.budget)
        for statistic in (target.budget or Budget()).latencies_ms(device.statistic) or [device.statistic]:
            device = device.judged_by(statistic)
        bench = Bench(inputs, supernet, device, laboratory, told)
        return Searcher(bench, self.settings.search, target.budget, self.seed, self.terminal)


def _told(target: Target, settings: PipelineSettings, several: bool) -> Target:
    """The target; of several, one whose figures this host does not tell is one with an error."""
    if target.device is None:
        return target
    try:
        check_told(told_by_hosts(settings.search.objectives, target.budget), [target.device])
    except UserError as error:
        if not several:
            raise
        return replace(target, device=None, error=error)
    return target


def _failed(target: Target, error: BaseException | None, seconds: float) -> Build:
    """One without an artifact; ``error`` is none of ours when something else ended the job."""
    ours = isinstance(error, UserError)
    return Build(
        name=target.name,
        device=target.asked,
        budget=str(target.budget or ""),
        exit_code=error.exit_code if ours else INTERNAL,  # type: ignore[union-attr]
        seconds=round(seconds, 1),
        message=error.message if ours else f"not built: {type(error).__name__}",  # type: ignore[union-attr]
    )
