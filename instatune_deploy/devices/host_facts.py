"""The facts of a host, as a plain value that another device can send as JSON: what of it decides how fast a model runs.

Nothing but the standard library, so that it runs on any device.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from instatune_deploy.devices.cpus import CPUINFO, allowed

CGROUP = Path("/sys/fs/cgroup")
BOARD = Path("/proc/device-tree/model")


def host_facts() -> dict[str, Any]:
    """Of the host of this process; the keys are the fields of `host.Host`. ``cpu_flags`` is a sorted list."""
    cpu_model, flags = parse_cpuinfo(_text(CPUINFO))
    return {
        "machine": platform.machine(),
        "cpu_model": cpu_model or platform.processor(),
        "cpu_flags": sorted(flags),
        "cores": usable_cores(),
        "memory_bytes": memory_bytes(),
        "os": f"{platform.system()} {platform.release()}",
        "board": parse_board(_text(BOARD)),
    }


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


def parse_board(text: str) -> str:
    """Name of the board from the device tree, which ends with a zero byte: ``Raspberry Pi 5 Model B Rev 1.0``."""
    return " ".join(text.replace("\0", " ").split())


def usable_cores() -> int:
    """Logical processors that the scheduler gives this process, at least 1."""
    quota = cgroup_quota()
    cores = len(allowed())
    return cores if quota is None else max(1, min(cores, quota))


def cgroup_quota(folder: Path = CGROUP) -> int | None:
    """Whole cores that the control group of this process may use; None when it may use all, or nobody tells."""
    return parse_quota(_text(folder / "cpu.max") or _old_quota(folder / "cpu"))


def parse_quota(text: str) -> int | None:
    """Whole cores that a control group's ``cpu.max`` allows (``200000 100000`` is 2); None when it allows all."""
    words = text.split()
    if len(words) != 2 or not all(word.isdigit() for word in words) or int(words[1]) == 0:
        return None
    return max(1, int(words[0]) // int(words[1]))


def memory_bytes() -> int:
    """Of the whole machine; 0 where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # no POSIX system
        return 0


def _old_quota(folder: Path) -> str:
    """Control groups of version 1 say the same in two files, and -1 when all is allowed."""
    return f"{_text(folder / 'cpu.cfs_quota_us').strip()} {_text(folder / 'cpu.cfs_period_us').strip()}"


def _text(path: Path) -> str:
    """What stands in a file of the system; empty where there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
