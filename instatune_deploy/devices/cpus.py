"""The processors: which of them this process may use, how many there are, and who keeps them busy. Linux tells all of it.

Nothing but the standard library, so that it runs on any device.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

STAT = Path("/proc/stat")
CPUINFO = Path("/proc/cpuinfo")
# above what an idle system and the 10 ms ticks of its accounts show, well below one busy neighbour
BUSY_MARGIN_CORES = 0.25


@dataclass(frozen=True)
class CpuAccount:
    """Seconds so far: on the clock, spent on any work by all processors that this process may use, and by this process.

    all_s: None where the system does not tell
    """

    clock_s: float
    all_s: float | None
    own_s: float


def cpu_account() -> CpuAccount:
    """The accounts now. Work of other virtual machines on the same hardware ("steal") counts, waiting does not."""
    return CpuAccount(clock_s=time.monotonic(), all_s=_busy_seconds(), own_s=time.process_time())


def others_cores(before: CpuAccount, after: CpuAccount) -> float | None:
    """How many processors other processes kept busy between two accounts, on average; at least 0. None: nobody tells."""
    clock_s = after.clock_s - before.clock_s
    if before.all_s is None or after.all_s is None:
        return None
    others_s = (after.all_s - before.all_s) - (after.own_s - before.own_s)
    return max(0.0, others_s / clock_s) if clock_s > 0 else 0.0


def too_busy(others: float | None, threads: int, processors: int) -> str | None:
    """Why a run of ``threads`` threads was disturbed, or None when enough of the ``processors`` stood idle for it."""
    if others is None or others + threads <= processors + BUSY_MARGIN_CORES:
        return None
    measured = "1 thread was" if threads == 1 else f"{threads} threads were"
    return f"other processes used {others:.1f} of {processors} processors while {measured} measured"


def processors() -> int:
    """How many logical processors this process may use."""
    return len(allowed())


def allowed() -> list[int]:
    """Numbers of the logical processors that this process may use, in order."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def physical_cores() -> int | None:
    """Cores of the machine, hyper-threads not counted; None where the system does not tell."""
    try:
        text = CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        return None
    cores = set()
    for block in text.split("\n\n"):
        fields = {
            key.strip(): value.strip() for key, colon, value in (line.partition(":") for line in block.splitlines()) if colon
        }
        if "core id" in fields:
            cores.add((fields.get("physical id"), fields["core id"]))
    return len(cores) or None


def load_average() -> float | None:
    """Processes that ran or waited to run, averaged over the last minute; None where the system does not tell."""
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):  # Windows; a container without /proc
        return None


def _busy_seconds() -> float | None:
    """Of the processors this process may use, since the machine started: user, nice, system, irq, softirq, steal (proc(5))."""
    try:
        lines = STAT.read_text(encoding="ascii").splitlines()
    except OSError:  # not Linux
        return None
    accounts = {words[0]: words[1:9] for words in (line.split() for line in lines) if words}
    busy = 0
    for number in allowed():
        ticks = [int(value) for value in accounts.get(f"cpu{number}", [])]
        if len(ticks) < 8:  # a sandbox that shows less
            return None
        user, nice, system, _idle, _iowait, irq, softirq, steal = ticks
        busy += user + nice + system + irq + softirq + steal
    return busy / os.sysconf("SC_CLK_TCK")
