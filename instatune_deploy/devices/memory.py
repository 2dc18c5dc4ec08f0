"""The memory of this process, as Linux accounts for it. Elsewhere nothing is known, and nothing is said.

Peak resident memory is what a device must have free to serve a graph: runtime, weights, and what a run needs, together.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress
from pathlib import Path

STATUS = Path("/proc/self/status")
FORGET = Path("/proc/self/clear_refs")
FORGET_PEAK = "5"
"""What makes Linux begin anew with the peak of a process (proc_pid_clear_refs(5))."""
PEAK = "VmHWM:"
UNIT_BYTES = 1024


def forget_peak() -> bool:
    """Begin anew: `peak_bytes` is of what comes now. False where this cannot be done.

    What was freed before is given back to the system first, or it would count again.
    """
    with suppress(AttributeError, OSError, TypeError):  # another C library than GNU's has no such function
        ctypes.CDLL(None).malloc_trim(0)
    try:
        FORGET.write_text(FORGET_PEAK, encoding="ascii")
    except OSError:
        return False
    return True


def peak_bytes() -> int | None:
    """Most memory that was resident at a time since `forget_peak`; None where the system does not tell."""
    try:
        lines = STATUS.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    for line in lines:
        if line.startswith(PEAK):
            return int(line.split()[1]) * UNIT_BYTES
    return None
