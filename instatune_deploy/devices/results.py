"""The results of a kit: a JSON file that grows by one item after the other. Written on the device: standard library only."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from instatune_deploy.devices.plan import Item, Key, Plan, Unusable
from instatune_deploy.devices.runs import Run

SCHEMA_VERSION = 1
RESULTS = "results.json"
DEATHS_ALLOWED = 2
DIED = "the script was ended while it measured this, twice: most often the system does so when memory runs out"
IDENTITY = ("machine", "cpu_model", "cpu_flags", "cores")
"""Facts of a host that decide latency (`Host.fingerprint`)."""


@dataclass
class Results:
    """What was measured so far, in memory and in its file.

    The file always holds a whole JSON document: a reader, or a kill in the middle, sees the one before an item or after it.
    """

    path: Path
    value: dict[str, Any]

    @classmethod
    def open(cls, path: Path, plan: Plan, host: dict[str, Any]) -> Results:
        """Those of an earlier start, or none. `Unusable` when the file is another plan's, another device's or no results."""
        if not path.exists():
            empty: dict[str, Any] = {
                "schema_version": SCHEMA_VERSION,
                "made_by": plan.made_by,
                "plan": plan.digest,
                "device": plan.device,
                "host": host,
                "rules": plan.rules,
                "references": [],
                "items": [],
            }
            return cls(path, empty)
        other = "move it away, or write elsewhere with --output"
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
            if value["schema_version"] != SCHEMA_VERSION or value["plan"] != plan.digest:
                raise Unusable(f"{path}: it belongs to another kit; {other}")
            if any(value["host"][name] != host[name] for name in IDENTITY):
                raise Unusable(f"{path}: it was measured on another machine; {other}")
            _ = value["references"], [(_key(item), item["timing"], item["why"]) for item in value["items"]]
        except (OSError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, Unusable):
                raise
            raise Unusable(f"{path}: not the results of a kit; {other}") from error
        return cls(path, value)

    @property
    def items(self) -> dict[Key, dict[str, Any]]:
        """Results by `Item.key`."""
        return {_key(item): item for item in self.value["items"]}

    def nominal_ms(self, run: Run, version: str) -> float | None:
        """What the reference model took beside ``run`` on this version of its runtime, when that could be said."""
        for reference in self.value["references"]:
            if Run(*reference["run"]) == run and reference["version"] == version:
                nominal_ms: float | None = reference["nominal_ms"]
                return nominal_ms
        return None

    def add_reference(self, run: Run, version: str, nominal_ms: float | None, why: str | None) -> None:
        """Keep it in place of what was said of ``run`` and ``version`` before; but no failure in place of a speed."""
        if nominal_ms is None and self.nominal_ms(run, version) is not None:
            return
        others = [item for item in self.value["references"] if (Run(*item["run"]), item["version"]) != (run, version)]
        said = {"run": list(run), "version": version, "nominal_ms": nominal_ms, "why": why}
        self.value["references"] = [*others, said]
        self._write()

    def add(self, item: Item, outcome: dict[str, Any]) -> None:
        """Keep an item's outcome (`probe.Outcome.to_json`) in place of what was known; but no failure in place of figures."""
        known = self.items.get(item.key)
        if outcome["why"] is not None and known is not None and known["why"] is None:
            self.end()
            return
        facts = {
            "graph_hash": item.graph_hash,
            "sha256": item.sha256,
            "size_bytes": item.size_bytes,
            "deployment": item.deployment,
        }
        others = [other for other in self.value["items"] if _key(other) != item.key]
        self.value["items"] = [*others, {**facts, **outcome}]
        self._write()
        self.end()

    def begin(self, item: Item) -> bool:
        """Note beside the results that ``item`` is being measured; False when the script has died of it too often."""
        deaths = 0
        try:
            noted = json.loads(self._note.read_text(encoding="utf-8"))
            deaths = noted["deaths"] + 1 if noted["key"] == _text(item) else 0
        except (OSError, ValueError, KeyError, TypeError):  # nothing noted: nothing died
            pass
        if deaths >= DEATHS_ALLOWED:
            return False
        _write(self._note, {"key": _text(item), "deaths": deaths})
        return True

    def end(self) -> None:
        """Nothing is being measured."""
        self._note.unlink(missing_ok=True)

    @property
    def _note(self) -> Path:
        return self.path.with_name(f"{self.path.name}.measuring")

    def _write(self) -> None:
        _write(self.path, self.value)


def believed(item: dict[str, Any]) -> bool:
    """Whether a result's figures may be used."""
    return item["timing"] is not None and item["why"] is None


def _key(item: dict[str, Any]) -> Key:
    return item["graph_hash"], Run(*(item["deployment"][name] for name in Run._fields))


def _text(item: Item) -> str:
    return f"{item.graph_hash} {item.run}"


def _write(path: Path, value: dict[str, Any]) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("w", encoding="utf-8") as stream:
            json.dump(value, stream, indent=1, allow_nan=False)
            stream.write("\n")
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise Unusable(f"{path}: cannot be written ({error.strerror}); make room, or write elsewhere with --output") from error
