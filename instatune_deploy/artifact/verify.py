"""Verify an artifact where this package is installed. Needs the artifact's runtime, and neither PyTorch nor transformers."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from instatune_deploy.archives import unpack
from instatune_deploy.artifact.checks import Report, checked
from instatune_deploy.artifact.manifest import read_manifest
from instatune_deploy.artifact.remeasure import remeasure
from instatune_deploy.config import TimingSettings
from instatune_deploy.devices.deployment import Deployment, Measurement
from instatune_deploy.devices.host import this_host

Remeasure = Callable[[Path, Deployment, str, TimingSettings], Measurement]


@contextmanager
def opened(artifact: Path) -> Iterator[Path]:
    """The folder of an artifact; of a zip file, one where it was unpacked for as long as this is open. ``BadInput`` for an
    archive that cannot be read, or is not safe: names that lead outside, links, too large."""
    if artifact.is_dir() or not artifact.exists():
        yield artifact
        return
    with tempfile.TemporaryDirectory() as scratch:
        unpack(artifact, Path(scratch) / "artifact")
        yield Path(scratch) / "artifact"


def verify(folder: Path, remeasure: Remeasure = remeasure) -> Report:
    """See `checks.checked`. ``BadInput`` when there is no artifact; ``VerificationFailed`` for a manifest not to be believed.

    ``remeasure`` is replaced in tests.
    """
    manifest = read_manifest(folder)

    def anew() -> Measurement:
        return remeasure(folder, manifest.deployment, manifest.device, manifest.timing)

    return checked(folder, manifest, anew, this_host().fingerprint)
