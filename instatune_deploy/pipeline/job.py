"""The flow from a pipeline file to artifacts, one stage after the other, for one device or several."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from instatune_deploy.budget import Budget
from instatune_deploy.config import PipelineSettings, ProfileSettings
from instatune_deploy.devices.host import this_host
from instatune_deploy.devices.profile import Device, load_profile, resolve
from instatune_deploy.devices.store import open_store
from instatune_deploy.errors import BadInput, UserError
from instatune_deploy.files import check_writable
from instatune_deploy.pipeline.handover import Handover
from instatune_deploy.pipeline.inputs import PipelineInputs, load_inputs, load_pipeline
from instatune_deploy.pipeline.told import check_told, told_by_hosts
from instatune_deploy.terminal import Terminal

if TYPE_CHECKING:
    from instatune_deploy.devices.measure import Laboratory
    from instatune_deploy.pipeline.search import Searcher
    from instatune_deploy.pipeline.supernet import Supernet


@dataclass(frozen=True)
class Job:
    """What the command line asked for, checked as far as that takes no time.

    again: measure anew what the store knows already
    store: file or database URL of the measurements; None is the file in ``work``
    """

    settings: PipelineSettings
    devices: tuple[Device, ...]
    budget: Budget | None
    handover: Handover
    work: Path
    seed: int
    terminal: Terminal
    again: bool = False
    store: str | None = None

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
        settings = load_pipeline(pipeline)
        profiles: dict[str, ProfileSettings] = {}
        for name in devices:
            profile = load_profile(name)
            if profiles.setdefault(profile.name, profile) != profile:
                raise BadInput(f"--device {name}: another profile given is called '{profile.name}' too; rename one of them")
        served = [handover.served(resolve(profile, this_host())) for profile in profiles.values()]
        handover.check(served)
        limited = [replace(device, sequence_length=min(device.sequence_length, settings.data.max_length)) for device in served]
        check_told(told_by_hosts(settings.search.objectives, budget), limited)
        check_writable(work)
        if devices:
            check_writable(handover.output)
            # what is wrong with the store is found before the training, not after it
            open_store(work, store, create=True).close()
        return cls(settings, tuple(limited), budget, handover, work, seed, terminal, again, store)

    def finetune(self) -> None:
        """Stages supernet and finetune."""
        self.prepare()

    def profile(self) -> None:
        """... and measure the first design on every device."""
        self._each_device(lambda searcher: searcher.profile())

    def search(self) -> None:
        """... and search every device's front."""
        self._each_device(self._search)

    def run(self) -> None:
        """... and hand over an artifact for every device. A device that fails does not keep the next from its turn."""
        self._each_device(self._deploy)

    def _search(self, searcher: Searcher) -> None:
        from instatune_deploy.pipeline.kept import searched
        from instatune_deploy.pipeline.summary import show_front

        show_front(searcher, searched(searcher, self.work))

    def _deploy(self, searcher: Searcher) -> None:
        from instatune_deploy.pipeline.export import export_stage
        from instatune_deploy.pipeline.kept import searched
        from instatune_deploy.pipeline.summary import say_if_full_fits, show_artifact

        result = searched(searcher, self.work)
        say_if_full_fits(searcher, result)
        exported = export_stage(searcher, result, self.handover.folder(searcher.device), self.terminal)
        show_artifact(searcher, result, exported, self.handover.finish(searcher.device))

    def prepare(self) -> tuple[PipelineInputs, Supernet]:
        """Stages supernet and finetune, and what they leave behind."""
        self.terminal.stage(f"model {self.settings.model.reference}")
        inputs = load_inputs(self.settings)
        counts = ", ".join(f"{len(rows)} {split}" for split, rows in inputs.data.texts.items())
        self.terminal.result(f"data {self.settings.data.reference}: {counts} rows; labels {', '.join(inputs.data.label_names)}")
        from instatune_deploy.pipeline.supernet import finetune_stage

        return inputs, finetune_stage(inputs, self.work, self.seed, self.terminal)

    def _each_device(self, stage: Callable[[Searcher], object]) -> None:
        from instatune_deploy.devices.measure import Laboratory

        inputs, supernet = self.prepare()
        failures: list[UserError] = []
        with (
            open_store(self.work, self.store, create=True) as store,
            closing(Laboratory(store, self.again, self.work)) as laboratory,
        ):
            for device in self.devices:
                try:
                    stage(self._searcher(inputs, supernet, device, laboratory))
                except UserError as error:
                    failures.append(error)
                    if len(self.devices) > 1:
                        self.terminal.say(f"Error: device {device.name}: {error.message}")
        if failures:
            worst = max(failures, key=lambda failure: failure.exit_code)
            if len(self.devices) > 1:
                raise type(worst)(f"{len(failures)} of {len(self.devices)} devices have no result; see above")
            raise worst

    def _searcher(self, inputs: PipelineInputs, supernet: Supernet, device: Device, laboratory: Laboratory) -> Searcher:
        from instatune_deploy.pipeline.bench import Bench
        from instatune_deploy.pipeline.search import Searcher

        runs = "; ".join(map(str, device.runs))
        self.terminal.stage(f"device {device.name}: {runs}; batch {device.batch_size}, {device.sequence_length} tokens")
        for skipped in device.skipped:
            self.terminal.result(f"{skipped.run} is left out: this host lacks {', '.join(skipped.missing)}")
        told = told_by_hosts(self.settings.search.objectives, self.budget)
        bench = Bench(inputs, supernet, device, laboratory, told)
        return Searcher(bench, self.settings.search, self.budget, self.seed, self.terminal)
