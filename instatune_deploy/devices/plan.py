"""The plan of a kit: which graphs a device that is elsewhere measures, and how. Standard library only: it is read there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from instatune_deploy.devices.runs import Run
from instatune_deploy.digests import file_sha256

SCHEMA_VERSION = 1
PLAN, INPUTS, REFERENCE, GRAPHS = "plan.json", "inputs.npz", "reference.onnx", "graphs"
ALL_CORES = 0
"""Number of threads in a plan that stands for every core of the device, whose number is only known there."""

Key = tuple[str, Run]


class Unusable(ValueError):
    """A file that cannot be used: which, and what is wrong with it, in one line."""


@dataclass(frozen=True)
class Item:
    """One graph to measure in one way of running it.

    graph:      its file, relative to the plan's folder
    graph_hash: what measurements know it by
    sha256:     of the file
    size_bytes: of the whole graph as it would ship, weights included
    deployment: `Deployment.to_json`; its threads may be `ALL_CORES`
    """

    graph: str
    graph_hash: str
    sha256: str
    size_bytes: int
    deployment: dict[str, Any]

    @property
    def run(self) -> Run:
        """How it is run."""
        return Run(*(self.deployment[name] for name in Run._fields))

    @property
    def key(self) -> Key:
        """What tells it from the other items."""
        return self.graph_hash, self.run

    def on(self, cores: int) -> Item:
        """The same item on a device of so many cores."""
        if self.deployment["threads"] != ALL_CORES:
            return self
        return replace(self, deployment={**self.deployment, "threads": cores})


@dataclass(frozen=True)
class Plan:
    """What a kit's script measures.

    made_by: version of this package
    device:  name of the hardware profile
    rules:   settings of the measuring protocol (`config.TimingSettings`)
    files:   SHA-256 of the files that the items share, by path relative to the plan's folder
    """

    made_by: str
    device: str
    rules: dict[str, Any]
    files: dict[str, str]
    items: tuple[Item, ...]

    def to_text(self) -> str:
        """The one JSON text of this plan."""
        return json.dumps({"schema_version": SCHEMA_VERSION, **asdict(self)}, sort_keys=True, indent=1, allow_nan=False) + "\n"

    @property
    def digest(self) -> str:
        """SHA-256 of `to_text`: what results say they belong to."""
        return hashlib.sha256(self.to_text().encode()).hexdigest()

    @property
    def protocol(self) -> Any:
        """The rules as `timing.Rules`."""
        return SimpleNamespace(**self.rules)

    @property
    def packages(self) -> list[str]:
        """What has to be installed on the device."""
        return ["numpy", *dict.fromkeys(package_of(item.run) for item in self.items)]

    def on(self, cores: int) -> list[Item]:
        """The items on a device of so many cores. Two that are the same there ("all" of 4 threads, and 4) are one."""
        return list({item.key: item for item in (item.on(cores) for item in self.items)}.values())

    @classmethod
    def from_text(cls, text: str, where: str) -> Plan:
        """The inverse of `to_text`; `Unusable` names ``where`` and the first thing that is wrong."""
        try:
            value = json.loads(text)
        except ValueError as error:
            raise Unusable(f"{where}: not whole: {error}; unpack the kit again") from error
        if not isinstance(value, dict) or value.get("schema_version") != SCHEMA_VERSION:
            raise Unusable(f"{where}: not a plan of schema {SCHEMA_VERSION}, which this script reads; take both from one kit")
        _check(value, {"made_by": str, "device": str, "rules": dict, "files": dict, "items": list}, where)
        return cls(
            value["made_by"],
            value["device"],
            value["rules"],
            value["files"],
            tuple(_item(item, f"{where}: items.{number}") for number, item in enumerate(value["items"])),
        )


def package_of(run: Run) -> str:
    """What `pip install` calls the runtime of ``run``."""
    on_nvidia = run.runtime == "onnxruntime" and run.provider in ("cuda", "tensorrt")
    return "onnxruntime-gpu" if on_nvidia else run.runtime


def inputs_name(deployment: dict[str, Any]) -> str:
    """The file with the inputs of a graph, by what `Deployment.to_json` says of it: images of another size have their own."""
    edge = deployment["architecture"].get("image_size")
    stem, _, ending = INPUTS.partition(".")
    return INPUTS if edge is None else f"{stem}-{int(edge)}.{ending}"


def plan_path(work: Path, digest: str) -> Path:
    """Where a work folder keeps the plan of a kit, by its digest."""
    return work / "kits" / f"{digest}.json"


def read_plan(folder: Path) -> Plan:
    """The plan in a kit's folder."""
    path = folder / PLAN
    try:
        return Plan.from_text(path.read_text(encoding="utf-8"), PLAN)
    except (OSError, UnicodeDecodeError) as error:
        raise Unusable(f"{path}: cannot be read; unpack the whole kit, and leave its files together") from error


def check_files(folder: Path, files: Iterable[tuple[str, str]]) -> None:
    """`Unusable` names the first of the files (path, SHA-256) that is missing or is not what the plan says."""
    for name, sha256 in files:
        try:
            found = file_sha256(folder / name)
        except OSError as error:
            raise Unusable(f"{name}: cannot be read ({error.strerror}); unpack the kit again") from error
        if found != sha256:
            raise Unusable(f"{name}: its SHA-256 is not the plan's: the file was changed or cut short; unpack the kit again")


def _item(value: Any, where: str) -> Item:
    if not isinstance(value, dict):
        raise Unusable(f"{where}: not an item")
    kinds = {"graph": str, "graph_hash": str, "sha256": str, "size_bytes": int, "deployment": dict}
    _check(value, kinds, where)
    run = {"runtime": str, "precision": str, "threads": int, "provider": str}
    _check(value["deployment"], run, f"{where}.deployment")
    return Item(**{name: value[name] for name in kinds})


def _check(value: Mapping[str, Any], kinds: Mapping[str, type], where: str) -> None:
    for name, kind in kinds.items():
        if not isinstance(value.get(name), kind):
            raise Unusable(f"{where}: '{name}' is missing or no {kind.__name__}; unpack the kit again")
