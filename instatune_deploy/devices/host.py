"""A host: what of it decides how fast a model runs."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from instatune_deploy.devices.host_facts import host_facts
from instatune_deploy.digests import digest

VECTOR_FLAGS = ("sse4", "avx", "fma", "amx", "asimd", "bf16", "i8mm", "sve")


@dataclass(frozen=True)
class Host:
    """A machine as a process may use it.

    machine:      type as ``uname -m`` says: x86_64, aarch64
    cpu_model:    name of the processor, empty where the system does not tell
    cpu_flags:    instruction sets, as the kernel names them; empty where there is no /proc/cpuinfo
    cores:        logical processors the process may use (affinity and container quota respected)
    memory_bytes: of the whole machine; 0 where the system does not tell
    os:           name and release of the system
    board:        its name in the device tree (single-board computers have one), else empty
    """

    machine: str
    cpu_model: str
    cpu_flags: frozenset[str]
    cores: int
    memory_bytes: int
    os: str
    board: str = ""

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Host:
        """The host that ``facts`` (`host_facts.host_facts`) tell of. ``ValueError`` names what is missing or wrong."""
        names = [item.name for item in fields(cls)]
        if not isinstance(facts, Mapping):
            raise ValueError(f"the facts of a host must be keys and values, found a {type(facts).__name__}")
        if set(facts) != set(names):
            lacking = [name for name in names if name not in facts]
            unknown = sorted(str(name) for name in facts if name not in names)
            raise ValueError(f"host: {_listed('missing', lacking) or _listed('unknown', unknown)}")
        for name in ("machine", "cpu_model", "os", "board"):
            if not isinstance(facts[name], str) or len(facts[name].splitlines()) > 1:
                raise ValueError(f"host: {name} must be one line of text (found {facts[name]!r})")
        for name, least in (("cores", 1), ("memory_bytes", 0)):
            # a bool is an int to Python
            if type(facts[name]) is not int or facts[name] < least:
                raise ValueError(f"host: {name} must be a whole number of at least {least} (found {facts[name]!r})")
        flags = facts["cpu_flags"]
        if not isinstance(flags, list) or not all(isinstance(flag, str) for flag in flags):
            raise ValueError(f"host: cpu_flags must be a list of words (found {flags!r})")
        return cls(**{**facts, "cpu_flags": frozenset(flags)})

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
    return Host.from_facts(host_facts())


def _listed(what: str, names: list[str]) -> str:
    """``missing: cores, os``; empty when there are none."""
    return f"{what}: {', '.join(names)}" if names else ""
