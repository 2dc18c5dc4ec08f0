"""A budget as a user writes it: ``20ms``, or ``p90:20ms`` with the percentile that is meant."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import get_args

from instatune_deploy.config import Statistic
from instatune_deploy.errors import BadInput

UNITS_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
FORM = re.compile(r"(?:(?P<statistic>[^:]*):)?(?P<number>[-+]?[0-9]+(?:\.[0-9]+)?)(?P<unit>[^0-9.]*)")
EXAMPLE = "a budget is a latency with its unit, such as 20ms, 1.5s or p90:20ms"


@dataclass(frozen=True)
class Budget:
    """The latency that may not be exceeded.

    statistic: the percentile that is judged; None: the one that the hardware profile names
    """

    limit_ms: float
    statistic: Statistic | None = None

    def __str__(self) -> str:
        prefix = f"{self.statistic}:" if self.statistic else ""
        return f"{prefix}{self.limit_ms:g}ms"


def parse_budget(text: str) -> Budget:
    """``BadInput`` says what is wrong with ``text``."""
    match = FORM.fullmatch(text.strip())
    if match is None:
        raise BadInput(f"budget '{text}': {EXAMPLE}")
    statistic, number, unit = match["statistic"], float(match["number"]), match["unit"].strip()
    if not unit:
        raise BadInput(f"budget '{text}': the unit is missing; did you mean '{text}ms'?")
    if unit not in UNITS_MS:
        raise BadInput(f"budget '{text}': '{unit}' is no unit of time ({', '.join(UNITS_MS)}); {EXAMPLE}")
    if not math.isfinite(number * UNITS_MS[unit]):
        raise BadInput(f"budget '{text}': that is longer than any latency; {EXAMPLE}")
    if number <= 0:
        raise BadInput(f"budget '{text}': a latency must be more than 0")
    if statistic is not None and statistic not in get_args(Statistic):
        raise BadInput(f"budget '{text}': '{statistic}' is no latency statistic ({', '.join(get_args(Statistic))})")
    return Budget(number * UNITS_MS[unit], statistic)  # type: ignore[arg-type]
