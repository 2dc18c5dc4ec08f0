"""Verify an artifact where this package is installed. Needs the artifact's runtime, and neither PyTorch nor transformers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from instatune_deploy.artifact.checks import Report, checked
from instatune_deploy.artifact.manifest import read_manifest
from instatune_deploy.artifact.remeasure import remeasure
from instatune_deploy.config import TimingSettings
from instatune_deploy.devices.deployment import Deployment, Measurement
from instatune_deploy.devices.host import this_host

Remeasure = Callable[[Path, Deployment, str, TimingSettings], Measurement]


def verify(folder: Path, remeasure: Remeasure = remeasure) -> Report:
    """See `checks.checked`. ``BadInput`` when there is no artifact; ``VerificationFailed`` for a manifest not to be believed.

    ``remeasure`` is replaced in tests.
    """
    manifest = read_manifest(folder)

    def anew() -> Measurement:
        return remeasure(folder, manifest.deployment, manifest.device, manifest.timing)

    return checked(folder, manifest, anew, this_host().fingerprint)
