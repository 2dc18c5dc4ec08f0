"""This host: what of it decides how fast a model runs."""

from __future__ import annotations

import functools
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from instatune_deploy.files import digest

CPUINFO = Path("/proc/cpuinfo")
CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")
VECTOR_FLAGS = ("sse4", "avx", "fma", "amx", "asimd", "bf16", "i8mm", "sve")


@dataclass(frozen=True)
class Host:
    """A machine as this process may use it.

    machine:      type as ``uname -m`` says: x86_64, aarch64
    cpu_model:    name of the processor, empty where the system does not tell
    cpu_flags:    instruction sets, as the kernel names them; empty where there is no /proc/cpuinfo
    cores:        logical processors this process may use (affinity and container quota respected)
    memory_bytes: of the whole machine
    os:           name and release of the system
    """

    machine: str
    cpu_model: str
    cpu_flags: frozenset[str]
    cores: int
    memory_bytes: int
    os: str

    @property
    def fingerprint(self) -> str:
        """Digest (16 hexadecimal digits) of what decides latency: machine, CPU model, cores and flags."""
        return digest([self.machine, self.cpu_model, self.cores, sorted(self.cpu_flags)])[:16]

    def describe(self) -> dict[str, Any]:
        """A JSON value for manifests; of the CPU flags only those that arithmetic uses."""
        vector = sorted(flag for flag in self.cpu_flags if flag.startswith(VECTOR_FLAGS))
        return {**asdict(self), "cpu_flags": vector, "fingerprint": self.fingerprint}


@functools.cache
def this_host() -> Host:
    """The host of this process; asked once."""
    try:
        text = CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        text = ""
    cpu_model, flags = parse_cpuinfo(text)
    return Host(
        machine=platform.machine(),
        cpu_model=cpu_model or platform.processor(),
        cpu_flags=flags,
        cores=usable_cores(),
        memory_bytes=psutil.virtual_memory().total,
        os=f"{platform.system()} {platform.release()}",
    )


def parse_cpuinfo(text: str) -> tuple[str, frozenset[str]]:
    """CPU model and flags from the text of /proc/cpuinfo; x86 says ``flags``, ARM says ``Features``."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.strip(), value.strip())
    flags = fields.get("flags") or fields.get("Features") or ""
    # most ARM kernels name the board or only numbers
    part = f"ARM implementer {fields['CPU implementer']} part {fields['CPU part']}" if "CPU part" in fields else ""
    return fields.get("model name") or fields.get("Model") or part, frozenset(flags.split())


def usable_cores() -> int:
    """Logical processors that the scheduler gives this process, at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota = parse_quota(CGROUP_QUOTA.read_text(encoding="utf-8"))
    except OSError:
        quota = None
    return cores if quota is None else max(1, min(cores, quota))


def parse_quota(text: str) -> int | None:
    """Whole cores that a control group's ``cpu.max`` allows (``200000 100000`` is 2); None when it allows all."""
    words = text.split()
    if len(words) != 2 or words[0] == "max":
        return None
    return max(1, int(words[0]) // int(words[1]))
