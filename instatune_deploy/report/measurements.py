"""What was measured, as a table for people, and one record as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from instatune_deploy.devices.latency import Limits
from instatune_deploy.devices.store import Counts, MeasurementStore, Record
from instatune_deploy.errors import BadInput
from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.words import counted

COLUMNS = (
    "id",
    "began (UTC)",
    "device",
    "architecture",
    "run",
    "p50 ms",
    "p90 ms",
    "p99 ms",
    "p50 ±",
    "count",
    "drift",
    "MB",
    "not believed",
)
WORDS = {"device", "architecture", "run", "not believed"}
"""These columns go on in the next line where a terminal is narrow; figures stay whole."""
DIGITS = 8
"""So many of an architecture's digest are shown; `--architecture` takes them."""
LOG_WIDTH = 400
"""Where nobody watches, a measurement is one line, so that grep finds it whole."""


def cells(record: Record) -> tuple[str, ...]:
    """The texts of a line, in the order of `COLUMNS`."""
    made, timing = record.measurement, record.measurement.timing
    about = (
        str(record.id),
        began(made.circumstances.get("started")),
        made.device,
        f"{short(made.deployment.architecture)} {made.deployment.architecture.digest[:DIGITS]}",
        str(made.deployment.run),
    )
    size = f"{made.size_bytes / 1e6:.1f}"
    if timing is None:
        return (*about, "", "", "", "", "", "", size, why_not(record))
    figures = (
        f"{timing.p50_ms:.2f}",
        f"{timing.p90_ms:.2f}",
        f"{timing.p99_ms:.2f}",
        interval(timing.limits["p50"], timing.p50_ms),
    )
    drift = "" if timing.reference_ms is None else f"{timing.drift:.2f}x"
    return (*about, *figures, str(timing.count), drift, size, why_not(record))


def short(architecture: Architecture) -> str:
    """``6L 72H 9216N``: layers, and attention heads and MLP neurons of all of them together."""
    edge = "" if architecture.image_size is None else f" {architecture.image_size}px"
    return f"{architecture.depth}L {sum(architecture.heads)}H {sum(architecture.mlp_widths)}N{edge}"


def interval(limits: Limits, value_ms: float) -> str:
    """Half of the 95% interval, as a share of the figure itself; empty where too few runs were made to say."""
    if limits.upper_ms is None:
        return ""
    return f"{(limits.upper_ms - limits.lower_ms) / 2 / value_ms:.1%}"


def began(started: object) -> str:
    """``2026-01-31 12:00`` of an ISO 8601 time."""
    return started[:16].replace("T", " ") if isinstance(started, str) else ""


def why_not(record: Record) -> str:
    """Why it is not believed; empty when it is."""
    made = record.measurement
    if made.believed:
        return ""
    return made.why or ("it could not be run" if made.timing is None else "its windows did not agree")


def table(records: Iterable[Record]) -> Table:
    """For the terminal; what is not believed is dim."""
    result = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in COLUMNS:
        words = name in WORDS
        result.add_column(name, justify="left" if words else "right", no_wrap=not words, overflow="fold")
    for record in records:
        result.add_row(*cells(record), style="" if record.measurement.believed else "dim")
    return result


def summary(counts: Counts, shown: int) -> str:
    """The line below the table."""
    line = (
        f"{counted(counts.measurements, 'measurement')}, {counts.believed} believed, "
        f"{counted(counts.devices, 'device')}, {counted(counts.hosts, 'host')}"
    )
    if shown < counts.measurements:
        line += f"; the newest {shown} are shown, --limit {counts.measurements} shows all"
    return line


def print_list(store: MeasurementStore, limit: int, filters: dict[str, object]) -> None:
    """What ``instatune-deploy measurements`` prints, on standard output."""
    console = Console(highlight=False, markup=False, soft_wrap=True)
    counts = store.counts(**filters)  # type: ignore[arg-type]
    if not counts.measurements:
        there = store.counts().measurements
        console.print(f"None of {counted(there, 'measurement')} in {store.name} matches." if there else nothing_yet(store.name))
        return
    width = None if console.is_terminal else LOG_WIDTH
    records = list(store.records(limit=limit, **filters))  # type: ignore[arg-type]
    Console(highlight=False, width=width, markup=False).print(table(records))
    console.print(summary(counts, len(records)))


def nothing_yet(name: str) -> str:
    """What to do when there are no measurements."""
    return f"No measurements in {name} yet: `instatune-deploy profile --device NAME` makes some; --work, --store: look elsewhere."


def record_json(store: MeasurementStore, number: int) -> str:
    """Everything of one record, as readable JSON. ``BadInput`` when there is none with that id."""
    record = store.get(number)
    if record is None:
        raise BadInput(f"measurement store {store.name}: no measurement {number}; `instatune-deploy measurements` lists them")
    made = record.measurement
    value = {
        "id": record.id,
        "key": record.key,
        "believed": made.believed,
        "architecture_digest": made.deployment.architecture.digest,
        "drift": made.timing and made.timing.drift,
        **made.to_json(),
    }
    return json.dumps(value, indent=2, ensure_ascii=False)
