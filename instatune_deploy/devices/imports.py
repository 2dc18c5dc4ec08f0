"""Take in what a kit's script measured on another device: every figure is checked before the first is added."""

from __future__ import annotations

import json
import math
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from instatune_deploy.devices.deployment import Deployment, Measurement
from instatune_deploy.devices.host import Host
from instatune_deploy.devices.latency import SHARES, Timing
from instatune_deploy.devices.plan import Plan, Unusable, plan_path
from instatune_deploy.devices.reference import reference_key
from instatune_deploy.devices.results import RESULTS, SCHEMA_VERSION
from instatune_deploy.devices.runs import Run
from instatune_deploy.devices.store import MeasurementStore
from instatune_deploy.digests import canonical_json
from instatune_deploy.errors import BadInput, reason
from instatune_deploy.supernet.architecture import Architecture

Milliseconds = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Checked(BaseModel):
    """Every key is there, none is unknown, a number is a number and neither NaN nor infinite."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class _Limits(_Checked):
    lower_ms: Annotated[float, Field(ge=0)]
    upper_ms: Milliseconds | None

    @model_validator(mode="after")
    def _ordered(self) -> _Limits:
        if self.upper_ms is not None and self.lower_ms > self.upper_ms:
            raise ValueError(f"lower_ms {self.lower_ms} exceeds upper_ms {self.upper_ms}")
        return self


class _Timing(_Checked):
    """`latency.Timing`, with what must hold between its figures."""

    p50_ms: Milliseconds
    p90_ms: Milliseconds
    p99_ms: Milliseconds
    mean_ms: Milliseconds
    max_ms: Milliseconds
    spread: Annotated[float, Field(ge=0)]
    count: Annotated[int, Field(ge=1)]
    windows: Annotated[int, Field(ge=1)]
    stable: bool
    involuntary_switches: Count
    limits: dict[str, _Limits]
    thrown: Count
    reference_ms: Milliseconds | None
    nominal_ms: Milliseconds | None
    seconds: Annotated[float, Field(ge=0)]
    timed_seconds: Annotated[float, Field(ge=0)]

    @model_validator(mode="after")
    def _consistent(self) -> _Timing:
        if not self.p50_ms <= self.p90_ms <= self.p99_ms <= self.max_ms:
            figures = f"{self.p50_ms}, {self.p90_ms}, {self.p99_ms}, {self.max_ms}"
            raise ValueError(f"p50_ms, p90_ms, p99_ms and max_ms must not decrease (found {figures})")
        if self.mean_ms > self.max_ms:
            raise ValueError(f"mean_ms {self.mean_ms} exceeds max_ms {self.max_ms}")
        if self.thrown > self.windows:
            raise ValueError(f"{self.thrown} windows were thrown away of {self.windows}")
        if set(self.limits) != set(SHARES):
            raise ValueError(f"limits must be those of {', '.join(SHARES)} (found {', '.join(self.limits) or 'none'})")
        return self


class _Reference(_Checked):
    run: tuple[str, str, int, str]
    version: str
    nominal_ms: Milliseconds | None
    why: str | None


class _Deployment(_Checked):
    architecture: dict[str, list[int] | int]
    runtime: str
    precision: str
    threads: int
    batch_size: int
    sequence_length: int
    provider: str

    @property
    def run(self) -> Run:
        return Run(self.runtime, self.precision, self.threads, self.provider)


class _Item(_Checked):
    graph_hash: str
    sha256: Sha256
    size_bytes: Annotated[int, Field(ge=1)]
    deployment: _Deployment
    timing: _Timing | None
    why: str | None
    version: str
    circumstances: dict[str, Any]

    @field_validator("circumstances")
    @classmethod
    def _figures(cls, circumstances: dict[str, Any]) -> dict[str, Any]:
        for name, kinds in (("peak_memory_bytes", (int,)), ("energy_mj", (int, float))):
            value = circumstances.get(name, 1)
            if type(value) not in kinds or not 0 < value < math.inf:
                raise ValueError(f"circumstances.{name} must be a number of more than 0 (found {value!r})")
        return circumstances

    @model_validator(mode="after")
    def _explained(self) -> _Item:
        if self.timing is None and not self.why:
            raise ValueError("without a timing, why must say what happened")
        return self


class _Results(_Checked):
    """`results.Results.value`."""

    schema_version: int
    made_by: str
    plan: Sha256
    device: str
    host: dict[str, Any]
    rules: dict[str, Any]
    references: list[_Reference]
    items: list[_Item]


@dataclass(frozen=True)
class Imported:
    """What came of a file.

    new, known: measurements that the store did not have, and had
    doubted:    why measurements (new or known) are not believed, and how many for each reason
    """

    device: str
    host: Host
    new: int
    known: int
    doubted: dict[str, int]


@dataclass(frozen=True)
class CheckedResults:
    """The results of a kit, nothing wrong with them."""

    results: _Results
    host: Host


def read_results(path: Path, work: Path) -> CheckedResults:
    """The results of a kit. ``BadInput`` names the first thing that is wrong with them.

    path: results.json, or a zip file with it
    work: the folder where the kit was made; it knows which graphs were in it
    """
    results = _read(path)
    plan = _plan(path, results.plan, work)
    try:
        host = Host.from_facts(results.host)
    except ValueError as error:
        raise BadInput(f"{path}: {error}") from error
    _check_against(path, results, plan, host)
    return CheckedResults(results, host)


def add_results(checked: CheckedResults, store: MeasurementStore, again: bool = False) -> Imported:
    """Add the measurements to ``store``, and the device's own speed.

    again: what was measured anew counts from now on, in place of what the store knows
    """
    results, host = checked.results, checked.host
    said = [item for item in results.references if item.nominal_ms is not None]
    # runs beside which the reference model is run alike have one speed: the one said last
    last = {reference_key(Run(*item.run), item.version, host.fingerprint): item for item in said}
    for key, item in last.items():
        about = {"device": results.device, "run": Run(*item.run), "host": host.fingerprint, "version": item.version}
        store.add_reference(key, **about, nominal_ms=item.nominal_ms, again=again)  # type: ignore[arg-type]
    nominal = {}
    for item in said:
        run = Run(*item.run)
        counts = store.find_reference(reference_key(run, item.version, host.fingerprint))
        assert counts is not None, "it was added above"
        nominal[run, item.version] = counts
    measurements = [_measurement(item, results, host, nominal) for item in results.items]
    new = sum([_add(measurement, store, again) for measurement in measurements])
    doubted = Counter(_doubt(measurement) for measurement in measurements if not measurement.believed)
    return Imported(results.device, host, new, len(measurements) - new, dict(doubted))


def _read(path: Path) -> _Results:
    text = _text(path)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        if not text.rstrip().endswith("}"):
            raise BadInput(f"{path}: it ends in the middle: the file was cut short; copy it again from the device") from error
        raise BadInput(f"{path}: not valid JSON ({reason(error)})") from error
    version = value.get("schema_version") if isinstance(value, dict) else None
    if type(version) is not int:
        raise BadInput(f"{path}: not the results of a kit (it has no schema_version)")
    if version > SCHEMA_VERSION:
        raise BadInput(
            f"{path}: its schema_version is {version}, and this version of instatune-deploy reads {SCHEMA_VERSION}: it is newer; "
            "update instatune-deploy"
        )
    if version != SCHEMA_VERSION:
        raise BadInput(f"{path}: schema_version must be {SCHEMA_VERSION} (found {version})")
    try:
        results = _Results.model_validate_json(text)
        canonical_json(value)  # numbers where anything may stand, too
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise BadInput(f"{path}: {name}: {first['msg'].removeprefix('Value error, ')}") from error
    except ValueError as error:
        raise BadInput(f"{path}: it holds a number that is none (NaN or infinite)") from error
    return results


def _text(path: Path) -> str:
    try:
        if not zipfile.is_zipfile(path):
            return path.read_text(encoding="utf-8")
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.rpartition("/")[2] == RESULTS]
            if len(names) != 1:
                raise BadInput(f"{path}: it holds {'no' if not names else 'more than one'} {RESULTS}")
            return archive.read(names[0]).decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not the results of a kit (no text in UTF-8)") from error
    except (OSError, zipfile.BadZipFile) as error:
        raise BadInput(f"{path}: cannot be read: {reason(error)}") from error


def _plan(path: Path, digest: str, work: Path) -> Plan:
    kept = plan_path(work, digest)
    if not kept.is_file():
        raise BadInput(
            f"{path}: its graphs are not known: no kit with the plan {digest[:16]} was made in {work}; "
            "give the folder where it was made with --work"
        )
    try:
        plan = Plan.from_text(kept.read_text(encoding="utf-8"), str(kept))
    except (OSError, UnicodeDecodeError, Unusable) as error:
        raise BadInput(f"{kept}: cannot be read: {reason(error)}") from error
    if plan.digest != digest:
        raise BadInput(f"{kept}: it was changed; make the kit again")
    return plan


def _check_against(path: Path, results: _Results, plan: Plan, host: Host) -> None:
    """The results are of this plan, on a device of that many cores, and of nothing else."""
    for name in ("made_by", "device", "rules"):
        if getattr(results, name) != getattr(plan, name):
            raise BadInput(f"{path}: {name} is not what the kit's plan says ({getattr(plan, name)!r})")
    expected = {item.key: item for item in plan.on(host.cores)}
    runs = {run for _, run in expected}
    for number, reference in enumerate(results.references):
        if Run(*reference.run) not in runs:
            raise BadInput(f"{path}: references.{number}: nothing of the kit is run as {Run(*reference.run)}")
    said = {(Run(*item.run), item.version) for item in results.references if item.nominal_ms is not None}
    for number, item in enumerate(results.items):
        where = f"{path}: items.{number}"
        run = item.deployment.run
        planned = expected.pop((item.graph_hash, run), None)
        if planned is None:
            raise BadInput(f"{where}: graph {item.graph_hash[:16]}, {run}: not in the kit, or twice in the results")
        found = item.model_dump(include={"sha256", "size_bytes", "deployment"})
        for name, value in found.items():
            if value != getattr(planned, name):
                raise BadInput(f"{where}: {name} is not that of the kit's graph {planned.graph}")
        if item.timing is not None and (run, item.version) not in said:
            raise BadInput(f"{where}: it has a timing, but references do not say how fast the device was ({run})")


def _measurement(item: _Item, results: _Results, host: Host, nominal: dict[tuple[Run, str], float]) -> Measurement:
    architecture = Architecture.from_json(item.deployment.architecture)
    deployment = Deployment(**{**item.deployment.model_dump(), "architecture": architecture})
    timing = None
    if item.timing is not None:
        # a store may know this host's own speed from before: figures are comparable on one scale only
        timing = Timing.from_json(item.timing.model_dump()).on_nominal(nominal[deployment.run, item.version])
    return Measurement(
        deployment=deployment,
        device=results.device,
        graph_hash=item.graph_hash,
        size_bytes=item.size_bytes,
        host=host.fingerprint,
        versions={deployment.runtime: item.version},
        protocol=results.rules,
        timing=timing,
        circumstances={**item.circumstances, "kit": results.plan, "host": host.describe()},
        why=item.why,
    )


def _add(measurement: Measurement, store: MeasurementStore, again: bool) -> bool:
    """False when the store has it: a believed one of the same key, or this very one."""
    if again or not measurement.believed:
        known = store.select(graph_hash=measurement.graph_hash, host=measurement.host, believed=None)
        if measurement in known:
            return False
    return store.add(measurement, again)


def _doubt(measurement: Measurement) -> str:
    return measurement.why or "its windows did not agree"
