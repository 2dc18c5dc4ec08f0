"""Verify an artifact where this package is installed. Needs the artifact's runtime, and neither PyTorch nor transformers."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from instatune_deploy.archives import unpack
from instatune_deploy.artifact.checks import Check, Report, checked, latency_limits
from instatune_deploy.artifact.manifest import Manifest, read_manifest
from instatune_deploy.artifact.remeasure import remeasure
from instatune_deploy.config import TimingSettings
from instatune_deploy.devices.deployment import Deployment, Measurement
from instatune_deploy.devices.host import this_host
from instatune_deploy.devices.profile import Device
from instatune_deploy.errors import UserError

Remeasure = Callable[[Path, Deployment, str, TimingSettings], Measurement]


@contextmanager
def opened(artifact: Path) -> Iterator[Path]:
    """The folder of an artifact; of a zip file, one where it was unpacked for as long as this is open; errors name the file.

    ``BadInput`` for a file that cannot be read, or is not safe: names that lead outside, links, too large.
    """
    if artifact.is_dir() or not artifact.exists():
        yield artifact
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "artifact"
        unpack(artifact, folder)
        # `zip -r` keeps the folder that the artifact stands in
        inside = list(folder.iterdir())
        if len(inside) == 1 and inside[0].is_dir():
            folder = inside[0]
        try:
            yield folder
        except UserError as error:
            error.message = error.message.replace(str(folder), str(artifact))
            error.args = (error.message,)
            raise


def verify_path(artifact: Path, device: Device | None = None) -> Report:
    """`verify` for the folder of an artifact or a zip file of it; report and errors name what was given."""
    with opened(artifact) as folder:
        return verify(folder, device=device).named(artifact)


def verify(folder: Path, remeasure: Remeasure = remeasure, device: Device | None = None) -> Report:
    """See `checks.checked`. ``BadInput`` when there is no artifact; ``VerificationFailed`` for a manifest not to be believed.

    device: what this host is to be for it: whether its profile runs what the artifact is, is checked too, and the budget is
    measured by its protocol; else by the manifest's. ``remeasure`` is replaced in tests.
    """
    manifest = read_manifest(folder)
    if device is not None and manifest.budget is not None:
        for statistic in latency_limits(manifest.budget):
            device = device.judged_by(statistic)  # type: ignore[arg-type]
    name, timing = (manifest.device, manifest.timing) if device is None else (device.name, device.timing)

    def anew() -> Measurement:
        return remeasure(folder, manifest.deployment, name, timing)

    first = [] if device is None else [_check_device(manifest, device)]
    return checked(folder, manifest, anew, this_host().fingerprint, first)


def _check_device(manifest: Manifest, device: Device) -> Check:
    """Whether the device runs models as the artifact is run, at its shape."""
    deployment = manifest.deployment
    made_for = "" if manifest.device == device.name else f"; it was made for '{manifest.device}'"
    if deployment.run not in device.runs:
        runs = "; ".join(map(str, device.runs))
        return Check("device", False, f"'{device.name}' runs {runs}, and the artifact is of {deployment.run}{made_for}")
    its, has = f"batch {device.batch_size}", f"batch {deployment.batch_size}"
    name, shape = max(manifest.input_shapes.items(), key=lambda item: len(item[1]))
    if len(shape) == 4:  # of images; where a profile says no size of them, theirs is the network's own
        whole, most = manifest.input_types.get(name) == "uint8", device.settings.image_size
        height, width = shape[1:3] if whole else shape[2:]
        # what a graph with its preprocessing inside takes says nothing of the network's size, which is known if it was searched
        size = deployment.architecture.image_size or (0 if whole else max(height, width))
        differs = its != has or (most is not None and size > most)
        its, has = its if most is None else f"{its}, {most} x {most} px", f"{has}, {height} x {width} px"
    else:  # rows that are never longer than a device's shape have a shape of their own
        differs = its != has or deployment.sequence_length > device.sequence_length
        its, has = f"{its}, {device.sequence_length} tokens", f"{has}, {deployment.sequence_length} tokens"
    if differs:
        return Check("device", False, f"'{device.name}' has {its}, and the artifact {has}{made_for}")
    return Check("device", True, f"this host is '{device.name}'{made_for}")
