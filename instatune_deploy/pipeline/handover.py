"""Where artifacts are put, and in which forms beside the plain one: a model server's repository, a zip file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from instatune_deploy.devices.profile import Device
from instatune_deploy.devices.runs import Run
from instatune_deploy.errors import BadInput, clear_os_errors

if TYPE_CHECKING:
    from instatune_deploy.artifact.compare import Gate

PLAIN = "plain"


@dataclass(frozen=True)
class Handover:
    """output: folder of artifacts; name: of the model in a repository, the artifact's for None; gate: what came before;
    opened: of batch and tokens what the graphs take at any size; embeds: whether they do the preprocessing, for images of
    ``source`` (height, width), or of the data's own size for None."""

    output: Path
    layout: str = PLAIN
    name: str | None = None
    archive: bool = False
    gate: Gate | None = None
    opened: tuple[str, ...] = ()
    embeds: bool = False
    source: tuple[int, int] | None = None

    def check(self, names: Sequence[str]) -> None:
        """``BadInput`` for a name that servers do not take, or one without a repository; a folder that is in the way.

        names: of the artifacts
        """
        from instatune_deploy.artifact.write import check_target

        for name in names:
            check_target(self.folder(name))
        if self.layout == PLAIN:
            if self.name is not None:
                raise BadInput("--model-name is that of a model in a server's repository: give --layout ovms or triton")
            return
        from instatune_deploy.artifact.layouts import check_name

        for name in names:
            check_name(self.name or name)

    def served(self, device: Device) -> Device:
        """The device with those ways of running only that the layout's server has, and whose graphs can be open where that is
        asked for. ``BadInput`` where there are none."""
        if self.opened:
            # int8 is calibrated, and other providers are compiled, for one shape
            runs = tuple(run for run in device.runs if run.provider == "cpu" and not run.precision.startswith("int8"))
            device = _with(device, runs, "--dynamic-batch, --dynamic-length: only fp32, bf16 and fp16 on CPUs take any size")
        if self.layout != PLAIN:
            from instatune_deploy.artifact.layouts import LAYOUTS, served

            runs = tuple(run for run in device.runs if LAYOUTS[self.layout].can(run))
            device = _with(device, runs, f"layout '{self.layout}' serves {served(self.layout)}")
        return device

    def folder(self, name: str) -> Path:
        """Of the plain artifact of that name."""
        return self.output / name

    def finish(self, name: str) -> list[Path]:
        """Make the other forms of a finished artifact; where they are."""
        made, plain = [], self.folder(name)
        folders = [plain]
        if self.layout != PLAIN:
            from instatune_deploy.artifact.layouts import write_layout

            repository = write_layout(plain, self.layout, self.name or name, self.output / f"{name}-{self.layout}")
            folders.append(repository)
            made.append(repository)
        if self.archive:
            from instatune_deploy.zips import write_zip

            for folder in folders:
                path = self.output / f"{folder.name}.zip"
                with clear_os_errors(f"cannot write {path}"):
                    write_zip(folder, path)
                made.append(path)
        return made


def _with(device: Device, runs: tuple[Run, ...], why: str) -> Device:
    """The device with ``runs`` only; ``BadInput`` when there are none."""
    if not runs:
        raise BadInput(f"{why}; device '{device.name}' has {'; '.join(map(str, device.runs))}")
    return replace(device, runs=runs)
