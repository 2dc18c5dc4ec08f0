"""What a host is doing just now, as far as it disturbs timings: clocks, other processes, memory, heat."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from instatune_deploy.devices import cpus
from instatune_deploy.devices.host_facts import cgroup_quota

CPU_FOLDER = Path("/sys/devices/system/cpu")
BUSIEST = 3
LEAST_CORES = 0.02
TIMEOUT_S = 5


@dataclass(frozen=True)
class Process:
    """One that uses processors: how many, on average over the time that was watched."""

    name: str
    pid: int
    cores: float


@dataclass(frozen=True)
class HostState:
    """Of this host, over about a second. None stands for what the system does not tell.

    processors:         logical ones of the whole machine
    physical_cores:     hyper-threads not counted
    allowed:            logical processors that this process may use
    quota:              whole cores that its control group may use
    governors:          frequency governors in use, each once, sorted; empty when they cannot be seen
    turbo:              whether clocks may rise above the nominal one
    load_average:       processes that ran or waited to run, over the last minute
    others_cores:       processors that other processes kept busy
    steal_share:        of all processor time, what other virtual machines took
    busiest:            other processes, the busiest first
    swap_used_bytes, memory_free_bytes, disk_free_bytes (where ``work`` is or will be)
    throttled:          bits of a Raspberry Pi's ``vcgencmd get_throttled``
    """

    processors: int
    physical_cores: int | None
    allowed: int
    quota: int | None
    governors: tuple[str, ...]
    turbo: bool | None
    load_average: float | None
    others_cores: float | None
    steal_share: float | None
    busiest: tuple[Process, ...]
    swap_used_bytes: int
    memory_free_bytes: int
    disk_free_bytes: int
    work: str
    throttled: int | None


def host_state(work: Path, watch_s: float = 1.0) -> HostState:
    """Of this host now; it is watched for ``watch_s`` seconds. ``work`` is the folder that will be written to."""
    account, ticks, times = cpus.cpu_account(), _ticks(), _process_times()
    time.sleep(watch_s)
    return HostState(
        processors=os.cpu_count() or 1,
        physical_cores=cpus.physical_cores(),
        allowed=len(cpus.allowed()),
        quota=cgroup_quota(),
        governors=governors(),
        turbo=turbo(),
        load_average=cpus.load_average(),
        others_cores=cpus.others_cores(account, cpus.cpu_account()),
        steal_share=steal_share(ticks, _ticks()),
        busiest=busiest_processes(times, _process_times(), watch_s),
        swap_used_bytes=psutil.swap_memory().used,
        memory_free_bytes=psutil.virtual_memory().available,
        disk_free_bytes=shutil.disk_usage(_existing(work)).free,
        work=str(work),
        throttled=throttled(),
    )


def governors(folder: Path = CPU_FOLDER) -> tuple[str, ...]:
    """Frequency governors of the processors, each once; empty when they cannot be seen, as in most virtual machines."""
    return tuple(sorted(set(_words(folder, "cpu[0-9]*/cpufreq/scaling_governor"))))


def turbo(folder: Path = CPU_FOLDER) -> bool | None:
    """Whether clocks may rise above the nominal one: Intel's driver says it the other way round than the rest."""
    for pattern, on in (("intel_pstate/no_turbo", "0"), ("cpufreq/boost", "1")):
        for word in _words(folder, pattern):
            return word == on
    return None


def parse_throttled(text: str) -> int | None:
    """``throttled=0x50000`` as a number; None when it says something else."""
    name, _, value = text.strip().partition("=")
    try:
        return int(value, 16) if name == "throttled" else None
    except ValueError:
        return None


def throttled() -> int | None:
    """What a Raspberry Pi says about heat and voltage; None on any other machine."""
    program = shutil.which("vcgencmd")
    if program is None:
        return None
    try:
        done = subprocess.run([program, "get_throttled"], capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_throttled(done.stdout)


def _words(folder: Path, pattern: str) -> Iterator[str]:
    for path in sorted(folder.glob(pattern)):
        with contextlib.suppress(OSError):
            yield path.read_text(encoding="ascii", errors="replace").strip()


def _ticks() -> list[int] | None:
    """Of all processors since the machine started (proc(5)): user, nice, system, idle, iowait, irq, softirq, steal."""
    try:
        return [int(value) for value in cpus.STAT.read_text(encoding="ascii").partition("\n")[0].split()[1:9]]
    except OSError:  # not Linux
        return None


def steal_share(before: list[int] | None, after: list[int] | None) -> float | None:
    """Of all processor time between two readings, what other virtual machines took; None where nobody tells."""
    if before is None or after is None or len(after) < 8:
        return None
    passed = [end - start for start, end in zip(before, after, strict=True)]
    return max(0, passed[7]) / sum(passed) if sum(passed) > 0 else 0.0


def _process_times() -> dict[tuple[int, float], tuple[str, float]]:
    """By process id and start: name, and seconds on processors so far. Of those that this user may see, but this one."""
    own = psutil.Process().pid
    times = {}
    for process in psutil.process_iter(["pid", "name", "cpu_times", "create_time"]):
        said = process.info
        if said["cpu_times"] is not None and said["pid"] != own:
            spent = said["cpu_times"].user + said["cpu_times"].system
            times[said["pid"], said["create_time"]] = (said["name"] or "?", spent)
    return times


def busiest_processes(
    before: dict[tuple[int, float], tuple[str, float]], after: dict[tuple[int, float], tuple[str, float]], seconds: float
) -> tuple[Process, ...]:
    """The `BUSIEST` between two readings, ``seconds`` apart; one that began meanwhile counts with all it spent."""
    found = []
    for key, (name, spent) in after.items():
        cores = (spent - before.get(key, (name, 0.0))[1]) / seconds
        if cores >= LEAST_CORES:
            found.append(Process(name, key[0], round(cores, 2)))
    return tuple(sorted(found, key=lambda process: -process.cores)[:BUSIEST])


def _existing(folder: Path) -> Path:
    """``folder``, or the nearest one above it that is there."""
    path = folder.absolute()
    while not path.exists():
        path = path.parent
    return path
