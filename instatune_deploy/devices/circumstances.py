"""The circumstances of a measurement: how busy others kept the machine meanwhile.

A neighbour that computes all the time makes windows that agree with each other and are wrong together; only the
processors' own accounts show it.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

import psutil

# above what an idle system and the 10 ms ticks of its accounts show, well below one busy neighbour
BUSY_MARGIN_CORES = 0.25


@dataclass(frozen=True)
class CpuAccount:
    """Seconds so far: on the clock, spent by all processors of the machine on any work, and by this process."""

    clock_s: float
    all_s: float
    own_s: float


def cpu_account() -> CpuAccount:
    """The accounts now. Work of other virtual machines on the same hardware ("steal") counts, waiting does not."""
    times = psutil.cpu_times()._asdict()
    busy = sum(times.get(kind, 0.0) for kind in ("user", "nice", "system", "irq", "softirq", "steal"))
    return CpuAccount(clock_s=time.monotonic(), all_s=busy, own_s=time.process_time())


def others_cores(before: CpuAccount, after: CpuAccount) -> float:
    """How many processors other processes kept busy between two accounts, on average; at least 0."""
    clock_s = after.clock_s - before.clock_s
    others_s = (after.all_s - before.all_s) - (after.own_s - before.own_s)
    return max(0.0, others_s / clock_s) if clock_s > 0 else 0.0


def too_busy(others: float, threads: int, processors: int) -> str | None:
    """Why a run of ``threads`` threads was disturbed, or None when enough of the ``processors`` stood idle for it."""
    if others + threads <= processors + BUSY_MARGIN_CORES:
        return None
    measured = "1 thread was" if threads == 1 else f"{threads} threads were"
    return f"other processes used {others:.1f} of {processors} processors while {measured} measured"


def processors() -> int:
    """Logical processors of the whole machine, whoever may use them."""
    return psutil.cpu_count() or 1


def load_average() -> float | None:
    """Processes that ran or waited to run, averaged over the last minute; None where the system does not tell."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
