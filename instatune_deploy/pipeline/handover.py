"""Where artifacts are put, and in which forms beside the plain one: a model server's repository, a zip file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from instatune_deploy.devices.profile import Device
from instatune_deploy.errors import BadInput, clear_os_errors

PLAIN = "plain"


@dataclass(frozen=True)
class Handover:
    """output: folder of artifacts, one a device; name: of the model in a repository, the device's name for None."""

    output: Path
    layout: str = PLAIN
    name: str | None = None
    archive: bool = False

    def check(self, devices: Iterable[Device]) -> None:
        """``BadInput`` for a name that servers do not take, or one without a repository."""
        if self.layout == PLAIN:
            if self.name is not None:
                raise BadInput("--model-name is that of a model in a server's repository: give --layout ovms or triton")
            return
        from instatune_deploy.artifact.layouts import check_name

        for device in devices:
            check_name(self.name or device.name)

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

    def folder(self, device: Device) -> Path:
        """Of the device's plain artifact."""
        return self.output / device.name

    def finish(self, device: Device) -> list[Path]:
        """Make the other forms of the device's finished artifact; where they are."""
        made, whole = [], self.folder(device)
        if self.layout != PLAIN:
            from instatune_deploy.artifact.layouts import write_layout

            whole = write_layout(whole, self.layout, self.name or device.name, self.output / f"{device.name}-{self.layout}")
            made.append(whole)
        if self.archive:
            from instatune_deploy.zips import write_zip

            path = self.output / f"{whole.name}.zip"
            with clear_os_errors(f"cannot write {path}"):
                write_zip(whole, path, compresslevel=6)
            made.append(path)
        return made
