"""The NVIDIA GPU: its name and clocks, as `nvidia-smi` tells them. A latency without them cannot be understood later."""

from __future__ import annotations

import shutil
import subprocess

FIELDS = ("name", "driver_version", "clocks.sm", "clocks.mem", "temperature.gpu", "utilization.gpu")
TIMEOUT_S = 10


def gpu_state() -> dict[str, str] | None:
    """Of the first GPU now, with units, by nvidia-smi's names; None where nobody tells."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    command = [program, f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader", "--id=0"]
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    values = [value.strip() for value in done.stdout.strip().partition("\n")[0].split(",")]
    return dict(zip(FIELDS, values, strict=True)) if done.returncode == 0 and len(values) == len(FIELDS) else None
