"""The energy of an inference, from the counters that Linux shows of Intel's and AMD's processors (RAPL, powercap).

They count everything that the processors' packages do, the idle rest of the machine included; most systems let only root
read them. Where there are none that can be read, nothing is said.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

COUNTERS = Path("/sys/class/powercap")
ZONES = "intel-rapl:[0-9]*"
PACKAGE = "package-"
"""How a processor package is named (AMD's too). Other zones are parts of one (cores, memory) or hold it (psys, the platform)."""
WINDOW_S = 0.3
"""The counters advance about every millisecond."""
UJ_PER_MJ = 1e3


def energy_mj(
    run_once: Callable[[], object], folder: Path = COUNTERS, clock: Callable[[], float] = time.perf_counter
) -> float | None:
    """Millijoules that the processors use in one run, the mean of `WINDOW_S` of them; None where nothing counts them."""
    before = _read(folder)
    if not before:
        return None
    runs, end = 0, clock() + WINDOW_S
    while runs == 0 or clock() < end:
        run_once()
        runs += 1
    after = _read(folder)
    if after.keys() != before.keys():
        return None
    used_uj = sum(_since(before[package][0], *after[package]) for package in before)
    return used_uj / UJ_PER_MJ / runs


def counted(folder: Path = COUNTERS) -> bool:
    """Whether anything counts energy that this process may read."""
    return bool(_read(folder))


def _read(folder: Path) -> dict[str, tuple[int, int]]:
    """By package: its counter, and what it counts to before it begins at 0 again, in microjoules; none where one is hidden."""
    try:
        return {
            path.name: (_number(path / "energy_uj"), _number(path / "max_energy_range_uj"))
            for path in sorted(folder.glob(ZONES))
            if (path / "name").read_text(encoding="ascii").startswith(PACKAGE)
        }
    except (OSError, ValueError):
        return {}


def _number(path: Path) -> int:
    return int(path.read_text(encoding="ascii"))


def _since(before: int, after: int, most: int) -> int:
    return after - before if after >= before else after + most - before
