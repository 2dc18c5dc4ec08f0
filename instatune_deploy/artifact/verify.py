"""Verify an artifact: are its files whole, is it the network it says, does it keep its budget on this host?

Needs the artifact's runtime, and neither PyTorch nor transformers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from instatune_deploy.artifact import manifest as manifests
from instatune_deploy.artifact import samples as samples_file
from instatune_deploy.artifact.graph_files import GRAPH_FILES
from instatune_deploy.artifact.manifest import FileEntry, Manifest, read_manifest
from instatune_deploy.artifact.parity import check_parity
from instatune_deploy.artifact.remeasure import remeasure
from instatune_deploy.artifact.samples import Samples
from instatune_deploy.config import TimingSettings
from instatune_deploy.devices.deployment import Deployment, Measurement
from instatune_deploy.devices.host import this_host
from instatune_deploy.digests import file_sha256
from instatune_deploy.errors import TooNoisy, VerificationFailed, clear_os_errors

Remeasure = Callable[[Path, Deployment, str, TimingSettings], Measurement]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at. ``ok`` is None when this host is too noisy to say."""

    name: str
    ok: bool | None
    detail: str


@dataclass(frozen=True)
class Report:
    """All checks, in the order they were made. Those that make no sense after a failure are not made."""

    folder: Path
    manifest: Manifest
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether every check was passed."""
        return all(check.ok for check in self.checks)

    def raise_if_failed(self) -> None:
        """``VerificationFailed`` names the first check that failed; ``TooNoisy`` the one that could not be made."""
        for error, verdict in ((VerificationFailed, False), (TooNoisy, None)):
            for check in self.checks:
                if check.ok is verdict:
                    raise error(f"{self.folder}: {check.name}: {check.detail}")

    def to_json(self) -> dict[str, Any]:
        """A JSON value."""
        return {"folder": str(self.folder), "ok": self.ok, "checks": [asdict(check) for check in self.checks]}


def verify(folder: Path, remeasure: Remeasure = remeasure) -> Report:
    """Check checksums, then parity on the sample rows, then the budget; a graph that is not the one written is not loaded.

    Failed checks stand in the report. Raised are ``BadInput`` (no artifact, a file that cannot be read, or a host that
    cannot run it, such as a CPU without the precision) and ``VerificationFailed`` (a manifest or
    samples that cannot be believed, a graph that breaks off).
    ``remeasure`` is replaced in tests.
    """
    manifest = read_manifest(folder)
    checks = check_files(folder, manifest)
    if all(check.ok for check in checks):
        checks.append(_check_parity(folder, manifest))
    if all(check.ok for check in checks):
        checks.append(_check_budget(folder, manifest, remeasure))
    return Report(folder, manifest, tuple(checks))


def check_files(folder: Path, manifest: Manifest) -> list[Check]:
    """One check a file: those of the manifest, those it should have, and those it does not know. ``BadInput`` when one
    cannot be read.
    """
    with clear_os_errors(f"{folder}: cannot be read"):
        return list(_file_checks(folder, manifest))


def _file_checks(folder: Path, manifest: Manifest) -> Iterator[Check]:
    found = _entries(folder)
    for name, entry in manifest.files.items():
        yield _check_file(folder, name, entry, found)
    for name in (*GRAPH_FILES[manifest.runtime].names, samples_file.FILE_NAME):
        if name not in manifest.files:
            yield Check(f"file {name}", False, "the manifest does not list it")
    for name in sorted(set(found) - set(manifest.files) - {manifests.FILE_NAME}):
        yield Check(f"file {name!r}", False, "it does not belong to the artifact: the manifest does not know it")


def _check_file(folder: Path, name: str, entry: FileEntry, found: dict[str, bool]) -> Check:
    title = f"file {name}"
    if name not in found:
        return Check(title, False, "it is missing")
    if not found[name]:
        return Check(title, False, "it is a link or a device, not a file")
    size = (folder / name).stat().st_size
    if size != entry.bytes:
        change = "truncated" if size < entry.bytes else "longer than it was"
        return Check(title, False, f"{change}: {size} bytes instead of {entry.bytes}")
    if file_sha256(folder / name) != entry.sha256:
        return Check(title, False, "its content was changed: the checksum (SHA-256) is not the manifest's")
    return Check(title, True, f"{size} bytes, checksum right")


def _entries(folder: Path) -> dict[str, bool]:
    """Everything below ``folder`` but folders, by its POSIX path, and whether it is an ordinary file. No link is followed."""
    found = {}
    for top, folders, files in os.walk(folder, onerror=_raise):
        links = [name for name in folders if os.path.islink(os.path.join(top, name))]
        for name in (*files, *links):
            path = Path(top, name)
            found[path.relative_to(folder).as_posix()] = path.is_file() and not path.is_symlink()
    return found


def _raise(error: OSError) -> None:
    raise error


def _check_parity(folder: Path, manifest: Manifest) -> Check:
    samples = Samples.read(folder)
    shapes = {name: [manifest.batch_size, *values.shape[1:]] for name, values in samples.inputs.items()}
    if shapes != manifest.input_shapes:
        return Check("parity", False, f"the samples' inputs are {shapes}, those of the manifest {manifest.input_shapes}")
    parity = check_parity(folder, manifest.deployment, samples, manifest.parity.tolerance)
    return Check("parity", parity.ok, str(parity))


def _check_budget(folder: Path, manifest: Manifest, remeasure: Remeasure) -> Check:
    budget = manifest.budget
    if budget is None:
        return Check("budget", True, "none was asked for")
    if budget.limit_ms is None and budget.memory_bytes is None:
        return Check("budget", True, f"{budget.text}: nothing of it depends on the host; the manifest's figures keep it")
    measured = remeasure(folder, manifest.deployment, manifest.device, manifest.timing)
    elsewhere = _elsewhere(manifest)
    if measured.timing is None:
        return Check("budget", False, f"{measured.why}{elsewhere}")
    memory_ok, memory = _memory(manifest, measured, budget)
    if memory_ok is False or budget.limit_ms is None:
        return Check("budget", memory_ok, f"{memory}{elsewhere}")
    if not measured.believed:
        return Check("budget", None, f"this host is too noisy to say: {measured.why}{elsewhere}")
    found_ms = measured.timing.statistic_ms(budget.statistic)
    promised_ms = manifest.latency_ms.statistic_ms(budget.statistic)
    ok = found_ms <= budget.limit_ms
    verdict = "keeps" if ok else "exceeds"
    detail = (
        f"{budget.statistic} {found_ms:.4g} ms {verdict} the budget of {budget.limit_ms:g} ms (promised: {promised_ms:.4g} ms)"
    )
    return Check("budget", ok and memory_ok, "; ".join(filter(None, [detail, memory])) + elsewhere)


def _memory(manifest: Manifest, measured: Measurement, budget: manifests.Budget) -> tuple[bool | None, str]:
    """Whether the peak memory keeps its budget, and in words; None when this host does not tell it."""
    if budget.memory_bytes is None:
        return True, ""
    if measured.memory_bytes is None:
        return None, "this host does not tell how much memory a process takes at most"
    ok = measured.memory_bytes <= budget.memory_bytes
    promised = (manifest.memory_bytes or 0) / 1e6
    return ok, (
        f"peak memory {measured.memory_bytes / 1e6:.4g} MB {'keeps' if ok else 'exceeds'} the budget of "
        f"{budget.memory_bytes / 1e6:.4g} MB (promised: {promised:.4g} MB)"
    )


def _elsewhere(manifest: Manifest) -> str:
    """A remark when the artifact was measured on another kind of host than this."""
    if manifest.host.get("fingerprint") == this_host().fingerprint:
        return ""
    made_on = manifest.host.get("cpu_model") or "an unknown processor"
    return f"; it was made for another host ({made_on}, {manifest.host.get('cores', '?')} cores)"
