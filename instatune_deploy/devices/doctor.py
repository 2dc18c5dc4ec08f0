"""What is found on a host, judged: is the tool usable here, and what would make timings steadier? Nothing is measured or
printed here.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from instatune_deploy.devices.cpus import BUSY_MARGIN_CORES
from instatune_deploy.devices.host import Host, this_host
from instatune_deploy.devices.host_state import HostState, host_state
from instatune_deploy.devices.installation import Installation, installation
from instatune_deploy.devices.runtimes.base import Refused, RunFailed, first_line
from instatune_deploy.devices.steadiness import TOLERANCE, Steadiness, steadiness
from instatune_deploy.errors import BadInput
from instatune_deploy.words import counted

GIB = 2**30
LOW_MEMORY_BYTES, LOW_DISK_BYTES, NO_DISK_BYTES, MUCH_SWAP_BYTES = 2 * GIB, 2 * GIB, GIB // 4, GIB // 4
STEAL_SHARE = 0.02
STEADY_SHARE = 0.8
TELLING = ("torch", "transformers", "onnx", "numpy")
"""Packages whose versions are told; of the others only that they are there."""
FLAGS = {
    "x86_64": {
        "fp32": ("avx2",),
        "bf16": ("avx512_bf16", "amx_bf16"),
        "int8": ("avx512_vnni", "avx_vnni", "amx_int8"),
        "fp16": ("avx512_fp16", "amx_fp16"),
    },
    "aarch64": {
        "fp32": ("asimd",),
        "fp16": ("asimdhp",),
        "int8": ("asimddp", "i8mm"),
        "bf16": ("bf16",),
    },
}
"""By machine and precision, the CPU flags of which one is enough to compute in it without detours."""
THROTTLED = {
    0: "the voltage is too low: use the power supply made for the board",
    1: "its clock is capped",
    2: "it is throttled: cool it",
    3: "it is near its temperature limit: cool it",
}
"""Bits of a Raspberry Pi's ``vcgencmd get_throttled``: what is so now; 16 bits further, what was so since its start."""


@dataclass(frozen=True)
class Check:
    """One line of the doctor's.

    state:    ``problem``: mend it; ``note``: worth knowing; ``ok``
    advice:   what would be better; empty where nothing is to be done
    blocking: whether the tool cannot be used because of it
    """

    name: str
    state: Literal["ok", "note", "problem"]
    found: str
    advice: str = ""
    blocking: bool = False


@dataclass(frozen=True)
class Findings:
    """All that was found. ``steadiness`` is a reason, in words, where it could not be measured."""

    python: str
    host: Host
    state: HostState
    installation: Installation
    steadiness: tuple[Steadiness, ...] | str

    @classmethod
    def of_this_host(cls, work: Path) -> Findings:
        """Takes some five seconds. The host is watched first, while this process does nothing."""
        host = this_host()
        state = host_state(work)
        found = installation()
        try:
            steady: tuple[Steadiness, ...] | str = steadiness(host.cores)
        except (Refused, RunFailed, ImportError, OSError) as error:
            steady = first_line(error)
        return cls(platform.python_version(), host, state, found, steady)


def diagnose(findings: Findings) -> list[Check]:
    """Every check, in the order in which they are told."""
    return [check for judge in CHECKS for check in judge(findings)]


def raise_if_unusable(checks: list[Check]) -> None:
    """``BadInput`` when the tool cannot be used here."""
    blocking = [check for check in checks if check.blocking]
    if blocking:
        reasons = "; ".join(f"{check.found}; {check.advice}" for check in blocking)
        raise BadInput(f"instatune-deploy cannot be used here: {reasons}")


def _packages(findings: Findings) -> list[Check]:
    needed = findings.installation.needed
    python = Check("Python", "ok", findings.python)
    if needed is None:
        advice = "`pip install -e .` in its folder lets the doctor check the packages it needs"
        return [python, Check("packages", "note", "instatune-deploy itself is not installed", advice)]
    bad = [package for package in needed if not package.fits]
    if bad:
        found = ", ".join(f"{item.name} {item.version or 'is missing'} (needed: {item.wanted or 'any'})" for item in bad)
        wanted = " ".join(f"'{item.name}{item.wanted}'" for item in bad)
        return [python, Check("packages", "problem", found, f"`pip install {wanted}`", blocking=True)]
    told = ", ".join(f"{item.name} {item.version}" for item in needed if item.name in TELLING)
    return [python, Check("packages", "ok", f"all {len(needed)} that are needed, among them {told}")]


def _runtimes(findings: Findings) -> list[Check]:
    checks = []
    for runtime in findings.installation.runtimes:
        if runtime.broken is not None:
            advice = f"`pip install --force-reinstall {' '.join(runtime.packages) or runtime.name}`"
            checks.append(Check(runtime.name, "problem", f"{runtime.version} cannot be loaded: {runtime.broken}", advice))
        elif runtime.version is None:
            checks.append(Check(runtime.name, "note", "not installed", f"`pip install {runtime.name}` for profiles that use it"))
        elif len(runtime.packages) > 1:
            found = f"{' and '.join(runtime.packages)} are installed, and overwrite each other's files"
            advice = f"`pip uninstall {' '.join(runtime.packages)}`, then install one of them; that for GPUs can do the CPU too"
            checks.append(Check(runtime.name, "problem", found, advice))
        else:
            found = f"{runtime.version.partition('-')[0]} computes on {', '.join(runtime.providers)}"
            lacking = f"; not on {', '.join(runtime.lacking)}" if runtime.lacking else ""
            checks.append(Check(runtime.name, "ok", found + lacking))
    gpu = findings.installation.gpu
    if gpu is not None:
        served = any("cuda" in runtime.providers for runtime in findings.installation.runtimes)
        advice = "" if served else "`pip uninstall onnxruntime`, then `pip install onnxruntime-gpu[cuda,cudnn]`"
        found = f"{gpu['name']}, driver {gpu['driver_version']}, {gpu['clocks.sm']}, {gpu['utilization.gpu']} busy"
        checks.append(Check("NVIDIA GPU", "ok" if served else "note", found, advice))
    return checks


def _flags(findings: Findings) -> list[Check]:
    host = findings.host
    name, said = "CPU", host.cpu_model or host.machine
    if host.machine not in FLAGS or not host.cpu_flags:
        return [Check(name, "note", f"{said}: its instruction sets are not told", "only measuring tells which precision is fast")]
    has = {what: [flag for flag in flags if flag in host.cpu_flags] for what, flags in FLAGS[host.machine].items()}
    able = [f"{what}: {', '.join(flags)}" for what, flags in has.items() if flags]
    unable = [what for what, flags in has.items() if not flags]
    found = f"{said} computes in {'; '.join(able) or 'nothing but single numbers'}"
    if "fp32" in unable:
        return [Check(name, "note", found, "all will be slow here, and the profiles for servers and boards do not match")]
    advice = "" if "int8" not in unable else "int8 will make models smaller here, hardly faster"
    return [Check(name, "ok", found + (f"; not in {', '.join(unable)}" if unable else ""), advice)]


def _cores(findings: Findings) -> list[Check]:
    state = findings.state
    found = f"{counted(state.processors, 'logical processor')}"
    checks = []
    if state.physical_cores is not None and state.physical_cores < state.processors:
        found += f" on {counted(state.physical_cores, 'core')}"
        advice = f"two of them share a core: try `threads: [{state.physical_cores}, all]` in the hardware profile"
        checks.append(Check("cores", "note", found, advice))
    else:
        checks.append(Check("cores", "ok", found))
    if state.allowed < state.processors:
        found = f"this process may use {state.allowed} of {state.processors} processors (affinity)"
        checks.append(Check("affinity", "note", found, "the others may still disturb it: they share caches and memory"))
    if state.quota is not None and state.quota < state.allowed:
        found = f"the container may use {counted(state.quota, 'core')} of {state.allowed} processors (a quota of time)"
        advice = "when the quota is used up, everything stops for a while; whole processors are steadier (docker: --cpuset-cpus)"
        checks.append(Check("quota", "note", found, advice))
    return checks


def _clock(findings: Findings) -> list[Check]:
    state = findings.state
    if "hypervisor" in findings.host.cpu_flags:
        machine = Check("machine", "note", "a virtual machine", "others may share its hardware: measure when they rest")
    else:
        machine = Check("machine", "ok", findings.host.board or "no sign of a virtual machine")
    hidden = "not visible, probably a virtual machine"
    if not state.governors:
        governor = Check("governor", "ok", hidden)
    elif state.governors == ("performance",):
        governor = Check("governor", "ok", "performance")
    else:
        advice = "the clock follows the load; `sudo cpupower frequency-set -g performance` keeps it up"
        governor = Check("governor", "note", ", ".join(state.governors), advice)
    if state.turbo is None:
        turbo = Check("turbo", "ok", hidden)
    elif state.turbo:
        advice = "clocks depend on heat and on how many cores work: cool well, or turn it off to compare (slower, steadier)"
        turbo = Check("turbo", "note", "on", advice)
    else:
        turbo = Check("turbo", "ok", "off")
    checks = [machine, governor, turbo]
    if state.throttled is not None:
        checks.append(_heat(state.throttled))
    return checks


def _heat(bits: int) -> Check:
    now = [text for bit, text in THROTTLED.items() if bits >> bit & 1]
    if now:
        return Check("heat", "problem", f"throttled={bits:#x}: {'; '.join(now)}", "timings of a throttled board say nothing")
    if bits >> 16:
        return Check("heat", "note", f"throttled={bits:#x}: not now, but since it was started", "watch heat and power supply")
    return Check("heat", "ok", "neither throttled nor short of voltage")


def _load(findings: Findings) -> list[Check]:
    state = findings.state
    names = ", ".join(f"{item.name} (process {item.pid}): {item.cores:.1f}" for item in state.busiest)
    if state.others_cores is None:
        load = Check("other load", "note", "not told by this system", "close what you do not need")
    elif state.others_cores <= BUSY_MARGIN_CORES:
        load = Check("other load", "ok", f"{state.others_cores:.1f} of {counted(state.processors, 'processor')} busy")
    else:
        found = f"others keep {state.others_cores:.1f} of {counted(state.processors, 'processor')} busy"
        idle = int(state.processors + BUSY_MARGIN_CORES - state.others_cores)
        still = f"at most {counted(idle, 'thread')}" if idle > 0 else "nothing"
        advice = f"{still} can be measured meanwhile; " + ("stop the busiest" if names else "wait, or ask who works here")
        load = Check("other load", "problem" if idle < 1 else "note", found + (f": {names}" if names else ""), advice)
    checks = [load]
    if state.load_average is not None:
        checks.append(Check("load average", "ok", f"{state.load_average:.1f} over the last minute"))
    if state.steal_share is not None and state.steal_share > STEAL_SHARE:
        found = f"{state.steal_share:.0%} of the processors' time went to other virtual machines"
        checks.append(Check("steal", "note", found, "ask for dedicated processors, or measure at another time"))
    return checks


def _space(findings: Findings) -> list[Check]:
    state = findings.state
    low = state.memory_free_bytes < LOW_MEMORY_BYTES
    advice = "enough to measure, little to fine-tune" if low else ""
    checks = [Check("memory", "note" if low else "ok", f"{state.memory_free_bytes / GIB:.1f} GiB free", advice)]
    if state.swap_used_bytes > MUCH_SWAP_BYTES:
        found = f"{state.swap_used_bytes / GIB:.1f} GiB in use"
        checks.append(Check("swap", "note", found, "a model that is swapped out is slow at first: free memory, or `swapoff -a`"))
    disk = f"{state.disk_free_bytes / GIB:.1f} GiB free for {state.work}"
    if state.disk_free_bytes < LOW_DISK_BYTES:
        worst = state.disk_free_bytes < NO_DISK_BYTES
        checks.append(
            Check("disk", "problem" if worst else "note", disk, "a run needs about 1 GiB; `--work` names another folder")
        )
    else:
        checks.append(Check("disk", "ok", disk))
    return checks


def _steadiness(findings: Findings) -> list[Check]:
    if isinstance(findings.steadiness, str):
        return [Check("steadiness", "note", f"not measured: {findings.steadiness}")]
    checks = []
    for item in findings.steadiness:
        found = (
            f"{item.run}: {item.median_ms:.2f} ms; medians of {item.windows} windows within {item.spread:.0%}, "
            f"{item.agreeing:.0%} of three in a row within {TOLERANCE:.0%}"
        )
        if item.agreeing >= STEADY_SHARE:
            checks.append(Check("steadiness", "ok", found))
        else:
            checks.append(Check("steadiness", "note" if item.agreeing > 0 else "problem", found, _steadier(findings)))
    return checks


def _steadier(findings: Findings) -> str:
    state = findings.state
    reasons: list[tuple[bool, str]] = [
        ((state.others_cores or 0) > BUSY_MARGIN_CORES, "stop other work"),
        (bool(state.governors) and state.governors != ("performance",), "set the governor to performance"),
        (state.turbo is True, "turn turbo off"),
        (state.quota is not None and state.quota < state.allowed, "get whole processors instead of a quota"),
        ("hypervisor" in findings.host.cpu_flags, "measure when the hardware's other users rest"),
    ]
    helpful = [text for applies, text in reasons if applies]
    return ", ".join([*helpful, "or leave a processor free (`threads:` in the hardware profile)"])


CHECKS: tuple[Callable[[Findings], list[Check]], ...] = (
    _packages,
    _runtimes,
    _flags,
    _cores,
    _clock,
    _load,
    _space,
    _steadiness,
)
