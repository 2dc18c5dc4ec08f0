"""What is looked at in an artifact: its files, the network, its budget. Needs NumPy and the artifact's runtime, and nothing else.

The same checks are made where everything of ours is installed (`verify`) and where nothing is (`edge`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from instatune_deploy.artifact.graph_files import GRAPH_FILES
from instatune_deploy.artifact.parity import Deployed, check_parity
from instatune_deploy.artifact.samples import FILE_NAME as SAMPLES
from instatune_deploy.artifact.samples import Samples
from instatune_deploy.digests import digest, file_sha256
from instatune_deploy.errors import BadInput, TooNoisy, UserError, VerificationFailed, clear_os_errors

if TYPE_CHECKING:
    from instatune_deploy.devices.latency import Timing

MANIFEST = "manifest.json"
SCHEMA_VERSION = 1
"""Of the newest manifest that is read."""
MAX_MANIFEST_BYTES = 16 << 20
"""Of a manifest that is read; one takes some ten thousand bytes."""
SEAL = "sha256"
"""The manifest's own digest, in itself."""
LEFT_BESIDE = re.compile(r"\.git(/.*)?|\.gitattributes|\.cache/huggingface/.*|(.*/)?\.DS_Store", re.DOTALL)
"""What git, the Hugging Face Hub and a Mac leave beside an artifact's files. Nothing loads any of it."""


class Entry(Protocol):
    """What a manifest says of a file."""

    @property
    def sha256(self) -> str: ...
    @property
    def bytes(self) -> int: ...


class Limits(Protocol):
    """What a manifest says of its budget; None: anything."""

    @property
    def text(self) -> str: ...
    @property
    def statistic(self) -> str: ...
    @property
    def limit_ms(self) -> float | None: ...
    @property
    def also_ms(self) -> Mapping[Any, float]: ...
    @property
    def size_bytes(self) -> float | None: ...
    @property
    def memory_bytes(self) -> float | None: ...
    @property
    def macs(self) -> float | None: ...
    @property
    def accuracy(self) -> float | None: ...


class Decided(Protocol):
    """What a manifest says of its accuracy."""

    @property
    def validation(self) -> float: ...


class Described(Protocol):
    """What is read of a manifest here."""

    @property
    def runtime(self) -> str: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def input_shapes(self) -> Mapping[str, list[int]]: ...
    @property
    def files(self) -> Mapping[str, Entry]: ...
    @property
    def budget(self) -> Limits | None: ...
    @property
    def memory_bytes(self) -> int | None: ...
    @property
    def macs(self) -> int: ...
    @property
    def accuracy(self) -> Decided: ...
    @property
    def host(self) -> Mapping[str, Any]: ...
    @property
    def tolerance(self) -> float: ...
    @property
    def deployment(self) -> Deployed: ...
    def promised_ms(self, statistic: str) -> float:
        """Latency by a statistic."""
        ...


class Measured(Protocol):
    """What came of measuring anew."""

    @property
    def timing(self) -> Timing | None: ...
    @property
    def why(self) -> str | None: ...
    @property
    def memory_bytes(self) -> int | None: ...


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
    manifest: Described
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether every check was passed."""
        return all(check.ok for check in self.checks)

    def failure(self) -> UserError | None:
        """``VerificationFailed`` names the first check that failed; ``TooNoisy`` the one that could not be made; None: all is
        well."""
        for error, verdict in ((VerificationFailed, False), (TooNoisy, None)):
            for check in self.checks:
                if check.ok is verdict:
                    return error(f"{self.folder}: {check.name}: {check.detail}")
        return None

    def raise_if_failed(self) -> None:
        """Raises what `failure` gives."""
        failure = self.failure()
        if failure is not None:
            raise failure

    def named(self, artifact: Path) -> Report:
        """The same, of what the user calls ``artifact``, whatever folder it was unpacked to."""
        checks = [replace(check, detail=check.detail.replace(str(self.folder), str(artifact))) for check in self.checks]
        return replace(self, folder=artifact, checks=tuple(checks))

    def to_json(self) -> dict[str, Any]:
        """A JSON value."""
        return {"folder": str(self.folder), "ok": self.ok, "checks": [asdict(check) for check in self.checks]}


def is_plain(name: str) -> bool:
    """Whether ``name`` is a relative POSIX path that stays inside its folder, on every system, and is not the manifest."""
    parts = name.split("/")
    odd = any(part in {"", ".", ".."} for part in parts) or re.search(r'[\x00-\x1f\x7f\\:*?"<>|]', name)
    return not odd and name != MANIFEST


def check_manifest_size(path: Path) -> None:
    """``VerificationFailed`` for a file that is too large to be a manifest, before it is read."""
    size = path.stat().st_size
    if size > MAX_MANIFEST_BYTES:
        raise VerificationFailed(f"{path}: not the manifest of an artifact (it has {size} bytes, and none is so large)")


def schema_of(path: Path, value: Any) -> int:
    """The schema that a manifest says it has; ``VerificationFailed`` where it says none."""
    schema = value.get("schema_version") if isinstance(value, dict) else None
    if type(schema) is not int or schema < 1:
        raise VerificationFailed(f"{path}: not the manifest of an artifact (it says no schema_version)")
    return schema


def break_seal(path: Path, value: dict[str, Any]) -> None:
    """Take a manifest's own digest out of ``value``; ``VerificationFailed`` unless it was right."""
    seal = value.pop(SEAL, None)
    try:
        untouched = digest(value) == seal
    except ValueError:  # NaN, which is no JSON and Python reads all the same
        untouched = False
    if not untouched:
        raise VerificationFailed(f"{path}: damaged or edited: its content does not match its own checksum")


def checked(
    folder: Path,
    manifest: Described,
    remeasure: Callable[[], Measured],
    fingerprint: str,
    before: Sequence[Check] = (),
) -> Report:
    """Check checksums, then parity on the sample rows, then the budget; a graph that is not the one written is not loaded.

    remeasure: measures the graph anew, in a process of its own; fingerprint: of this host (`Host.fingerprint`); before: what
    was checked already

    Failed checks stand in the report. Raised are ``BadInput`` (a file that cannot be read, or a host that cannot run it, such
    as a CPU without the precision) and ``VerificationFailed`` (samples that cannot be believed, a graph that breaks off).
    """
    checks = [*before, *check_files(folder, manifest)]
    if all(check.ok for check in checks):
        checks.append(_check_parity(folder, manifest))
    if all(check.ok for check in checks):
        checks.append(_check_budget(manifest, remeasure, fingerprint))
    return Report(folder, manifest, tuple(checks))


def check_files(folder: Path, manifest: Described) -> list[Check]:
    """One check a file: those of the manifest, those it should have, and those it does not know. ``BadInput`` when one
    cannot be read.
    """
    with clear_os_errors(f"{folder}: cannot be read"):
        return list(_file_checks(folder, manifest))


def _file_checks(folder: Path, manifest: Described) -> Iterator[Check]:
    found = _entries(folder)
    for name, entry in manifest.files.items():
        yield _check_file(folder, name, entry, found)
    for name in (*GRAPH_FILES[manifest.runtime].names, SAMPLES):
        if name not in manifest.files:
            yield Check(f"file {name}", False, "the manifest does not list it")
    for name in sorted(set(found) - set(manifest.files) - {MANIFEST}):
        if not LEFT_BESIDE.fullmatch(name):
            yield Check(f"file {name!r}", False, "it does not belong to the artifact: the manifest does not know it")


def _check_file(folder: Path, name: str, entry: Entry, found: dict[str, bool]) -> Check:
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


def _check_parity(folder: Path, manifest: Described) -> Check:
    samples = Samples.read(folder)
    shapes = {name: [manifest.batch_size, *values.shape[1:]] for name, values in samples.inputs.items()}
    if shapes != manifest.input_shapes:
        return Check("parity", False, f"the samples' inputs are {shapes}, those of the manifest {manifest.input_shapes}")
    parity = check_parity(folder, manifest.deployment, samples, manifest.tolerance)
    return Check("parity", parity.ok, str(parity))


def _check_budget(manifest: Described, remeasure: Callable[[], Measured], fingerprint: str) -> Check:
    budget = manifest.budget
    if budget is None:
        return Check("budget", True, "none was asked for")
    said = exceeded(manifest, budget, sum(manifest.files[name].bytes for name in GRAPH_FILES[manifest.runtime].names))
    if said is not None:
        return Check("budget", False, said)
    limits_ms = latency_limits(budget)
    if not limits_ms and budget.memory_bytes is None:
        return Check("budget", True, f"{budget.text}: nothing of it depends on the host; the manifest's figures keep it")
    measured = remeasure()
    elsewhere = _elsewhere(manifest, fingerprint)
    if measured.timing is None:
        return Check("budget", False, f"{measured.why}{elsewhere}")
    memory_ok, memory = _memory(manifest, measured, budget)
    if not memory_ok or not limits_ms:
        return Check("budget", memory_ok, f"{memory}{elsewhere}")
    if measured.why is not None or not measured.timing.stable:
        return Check("budget", None, f"this host is too noisy to say: {measured.why}{elsewhere}")
    details, kept = [], True
    for statistic, limit_ms in limits_ms.items():
        found_ms, promised_ms = measured.timing.statistic_ms(statistic), manifest.promised_ms(statistic)
        ok = found_ms <= limit_ms
        verdict = "keeps" if ok else "exceeds"
        details.append(f"{statistic} {found_ms:.4g} ms {verdict} the budget of {limit_ms:g} ms (promised: {promised_ms:.4g} ms)")
        kept = kept and ok
    return Check("budget", kept, "; ".join(filter(None, [*details, memory])) + elsewhere)


def latency_limits(budget: Limits) -> dict[str, float]:
    """Every limit of the latency, in ms by its percentile."""
    own = {} if budget.limit_ms is None else {budget.statistic: budget.limit_ms}
    return {**own, **budget.also_ms}


def exceeded(manifest: Described, budget: Limits, size_bytes: int) -> str | None:
    """The first limit that a manifest's own figures exceed, in words; None: they keep the budget.

    size_bytes: of the graph's files
    """
    for statistic, limit_ms in latency_limits(budget).items():
        if manifest.promised_ms(statistic) > limit_ms:
            return f"its {statistic} exceeds its budget of {limit_ms:g} ms"
    if budget.size_bytes is not None and size_bytes > budget.size_bytes:
        return f"its {size_bytes} bytes exceed its budget of {budget.size_bytes:.0f}"
    if budget.memory_bytes is not None and (manifest.memory_bytes is None or manifest.memory_bytes > budget.memory_bytes):
        return f"its peak memory of {manifest.memory_bytes} bytes exceeds its budget of {budget.memory_bytes:.0f}"
    if budget.macs is not None and manifest.macs / manifest.batch_size > budget.macs:
        return f"its {manifest.macs} MACs exceed its budget of {budget.macs:.0f} an input"
    if budget.accuracy is not None and manifest.accuracy.validation < budget.accuracy:
        return f"its validation accuracy of {manifest.accuracy.validation:g} is below its budget of {budget.accuracy:g}"
    return None


def _memory(manifest: Described, measured: Measured, budget: Limits) -> tuple[bool, str]:
    """Whether the peak memory keeps its budget, and in words. ``BadInput`` when this host does not tell it."""
    if budget.memory_bytes is None:
        return True, ""
    if measured.memory_bytes is None:
        raise BadInput(f"the budget of {budget.text} cannot be checked here: only Linux tells how much a process takes at most")
    ok = measured.memory_bytes <= budget.memory_bytes
    promised = (manifest.memory_bytes or 0) / 1e6
    return ok, (
        f"peak memory {measured.memory_bytes / 1e6:.4g} MB {'keeps' if ok else 'exceeds'} the budget of "
        f"{budget.memory_bytes / 1e6:.4g} MB (promised: {promised:.4g} MB)"
    )


def _elsewhere(manifest: Described, fingerprint: str) -> str:
    """A remark when the artifact was measured on another kind of host than this."""
    if manifest.host.get("fingerprint") == fingerprint:
        return ""
    made_on = manifest.host.get("cpu_model") or "an unknown processor"
    return f"; it was made for another host ({made_on}, {manifest.host.get('cores', '?')} cores)"
