"""A budget as a user writes it: ``20ms``, ``p90:20ms``, ``size:30MB``, ``memory:200MB``, ``macs:2G``, ``accuracy:0.85``."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any, get_args

from instatune_deploy.config import Statistic
from instatune_deploy.errors import BadInput

UNITS_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
UNITS_BYTES = {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30}
UNITS_MACS = {"K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
PARTS = {"": 1, "%": 100}
"""How many of each unit of an accuracy make a whole."""
FORM = re.compile(r"(?:(?P<what>[^:]*):)?(?P<number>[-+]?[0-9]+(?:\.[0-9]+)?)(?P<unit>[^0-9.]*)")
LATENCY = "latency"
NAMES = {
    LATENCY: "the latency",
    "size_bytes": "the size",
    "memory_bytes": "the memory",
    "macs": "the MACs",
    "accuracy": "the accuracy",
}
EXAMPLE = (
    "a budget is a latency with its unit, such as 20ms, 1.5s or p90:20ms, or size:30MB, memory:200MB, macs:2G, accuracy:0.85"
)


@dataclass(frozen=True)
class Budget:
    """What a network may cost at most, and how accurate it must be at least; None: anything.

    statistic: the percentile of the latency that is judged; None: the one that the hardware profile names
    also_ms:   limits of other percentiles
    memory_bytes: peak resident memory of a process that runs it
    macs:      multiply-accumulates of one input
    accuracy:  on the validation rows, 0 to 1; where it is given, the fastest that reaches it is looked for
    """

    limit_ms: float | None = None
    statistic: Statistic | None = None
    size_bytes: float | None = None
    memory_bytes: float | None = None
    macs: float | None = None
    accuracy: float | None = None
    also_ms: tuple[tuple[Statistic, float], ...] = ()

    def latencies_ms(self, own: Statistic) -> dict[Statistic, float]:
        """Every limit of the latency by its percentile; ``own``: that of ``limit_ms`` where none is named."""
        found: dict[Statistic, float] = {} if self.limit_ms is None else {self.statistic or own: self.limit_ms}
        for statistic, limit_ms in self.also_ms:
            found[statistic] = min(limit_ms, found.get(statistic, math.inf))
        return found

    def __str__(self) -> str:
        prefix = f"{self.statistic}:" if self.statistic else ""
        said = [
            None if self.limit_ms is None else f"{prefix}{self.limit_ms:g}ms",
            *(f"{statistic}:{limit_ms:g}ms" for statistic, limit_ms in self.also_ms),
            None if self.size_bytes is None else f"size:{self.size_bytes / 1e6:g}MB",
            None if self.memory_bytes is None else f"memory:{self.memory_bytes / 1e6:g}MB",
            None if self.macs is None else f"macs:{self.macs / 1e9:g}G",
            None if self.accuracy is None else f"accuracy:{self.accuracy:g}",
        ]
        return ",".join(text for text in said if text is not None)


def parse_budgets(texts: Iterable[str]) -> Budget | None:
    """One budget of all that is written, each text one or several with commas between; None for none at all.

    ``BadInput`` says what is wrong with a text, or that two limit the same.
    """
    found: dict[str | tuple[str, str | None], tuple[Any, str]] = {}
    for text in (part for given in texts for part in given.split(",")):
        for name, value in _limits(parse_budget(text)).items():
            before, first = found.setdefault(name, (value, text))
            if before != value:
                what = NAMES[name if isinstance(name, str) else LATENCY]
                raise BadInput(f"budgets '{first.strip()}' and '{text.strip()}' both limit {what}: give one of them")
    limits = {name: value for name, (value, _) in found.items() if isinstance(name, str)}
    latencies = [(name[1], value) for name, (value, _) in found.items() if isinstance(name, tuple)]
    # the profile's own percentile comes first, then they stand in the order they were given in
    for number, (statistic, limit_ms) in enumerate(sorted(latencies, key=lambda item: item[0] is not None)):
        if number == 0:
            limits |= {"limit_ms": limit_ms, "statistic": statistic}
        else:
            limits["also_ms"] = (*limits.get("also_ms", ()), (statistic, limit_ms))
    return Budget(**limits) if found else None


def parse_budget(text: str) -> Budget:
    """``BadInput`` says what is wrong with ``text``."""
    match = FORM.fullmatch(text.strip())
    if match is None:
        raise BadInput(f"budget '{text}': {EXAMPLE}")
    what, number, unit = match["what"], float(match["number"]), match["unit"].strip()
    if what == "size":
        return Budget(size_bytes=_amount(text, number, unit, UNITS_BYTES, "size"))
    if what == "memory":
        return Budget(memory_bytes=_amount(text, number, unit, UNITS_BYTES, "memory"))
    if what == "macs":
        return Budget(macs=_amount(text, number, unit, {"": 1.0, **UNITS_MACS}, "number of MACs"))
    if what == "accuracy":
        _amount(text, number, unit, dict.fromkeys(PARTS, 1.0), "accuracy")
        share = float(Decimal(match["number"]) / PARTS[unit])  # exactly: 95.1% is 951 of 1000 rows, and no more
        if share > 1:
            hint = f"; did you mean '{what}:{number:g}%'?" if not unit and number <= PARTS["%"] else ""
            raise BadInput(f"budget '{text}': an accuracy is at most 1{hint}")
        return Budget(accuracy=share)
    if what is not None and what not in get_args(Statistic):
        known = ", ".join(get_args(Statistic))
        raise BadInput(f"budget '{text}': '{what}' is no latency statistic ({known}), and not size, memory, macs or accuracy")
    return Budget(_amount(text, number, unit, UNITS_MS, "latency"), what)  # type: ignore[arg-type]


def _amount(text: str, number: float, unit: str, units: dict[str, float], what: str) -> float:
    """In the base unit. ``BadInput`` for a unit of something else, none, or a number that can be none of it."""
    if not unit and "" not in units:
        raise BadInput(f"budget '{text}': the unit is missing; did you mean '{text}{'ms' if what == 'latency' else 'MB'}'?")
    if unit not in units:
        kind = "time" if what == "latency" else what
        hint = f"; a size is written size:{number:g}{unit}" if what == "latency" and unit in UNITS_BYTES else ""
        raise BadInput(f"budget '{text}': '{unit}' is no unit of {kind} ({', '.join(filter(None, units))}){hint}; {EXAMPLE}")
    if not math.isfinite(number * units[unit]):
        raise BadInput(f"budget '{text}': that is more than any {what}; {EXAMPLE}")
    if number <= 0:
        raise BadInput(f"budget '{text}': {'an' if what[0] == 'a' else 'a'} {what} must be more than 0")
    return number * units[unit]


def _limits(budget: Budget) -> dict[str | tuple[str, str | None], Any]:
    """By what is limited: every percentile of the latency is a thing of its own."""
    found: dict[str | tuple[str, str | None], Any] = {
        item.name: value
        for item in fields(budget)
        if item.name not in {"limit_ms", "statistic", "also_ms"} and (value := getattr(budget, item.name)) is not None
    }
    return found if budget.limit_ms is None else {(LATENCY, budget.statistic): budget.limit_ms, **found}
