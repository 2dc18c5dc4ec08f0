"""Where artifacts are put, and in which forms beside the plain one: a model server's repository, a zip file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from instatune_deploy.devices.profile import Device
from instatune_deploy.errors import BadInput, clear_os_errors

if TYPE_CHECKING:
    from instatune_deploy.artifact.compare import Gate

PLAIN = "plain"


@dataclass(frozen=True)
class Handover:
    """output: folder of artifacts; name: of the model in a repository, the artifact's for None; gate: what came before."""

    output: Path
    layout: str = PLAIN
    name: str | None = None
    archive: bool = False
    gate: Gate | None = None

    def check(self, names: Iterable[str]) -> None:
        """``BadInput`` for a name that servers do not take, or one without a repository. names: of the artifacts"""
        if self.layout == PLAIN:
            if self.name is not None:
                raise BadInput("--model-name is that of a model in a server's repository: give --layout ovms or triton")
            return
        from instatune_deploy.artifact.layouts import check_name

        for name in names:
            check_name(self.name or name)

    def served(self, device: Device) -> Device:
        """The device with those ways of running only that the layout's server has. ``BadInput`` where there are none."""
        if self.layout == PLAIN:
            return device
        from instatune_deploy.artifact.layouts import LAYOUTS, served

        runs = tuple(run for run in device.runs if LAYOUTS[self.layout].can(run))
        if not runs:
            has = "; ".join(map(str, device.runs))
            raise BadInput(f"layout '{self.layout}' serves {served(self.layout)}; device '{device.name}' has {has}")
        return replace(device, runs=runs)

    def folder(self, name: str) -> Path:
        """Of the plain artifact of that name."""
        return self.output / name

    def finish(self, name: str) -> list[Path]:
        """Make the other forms of a finished artifact; where they are."""
        made, whole = [], self.folder(name)
        if self.layout != PLAIN:
            from instatune_deploy.artifact.layouts import write_layout

            whole = write_layout(whole, self.layout, self.name or name, self.output / f"{name}-{self.layout}")
            made.append(whole)
        if self.archive:
            from instatune_deploy.zips import write_zip

            path = self.output / f"{whole.name}.zip"
            with clear_os_errors(f"cannot write {path}"):
                write_zip(whole, path, compresslevel=6)
            made.append(path)
        return made
