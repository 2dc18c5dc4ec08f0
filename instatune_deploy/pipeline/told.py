"""Figures that only some hosts tell: asked for where nothing tells them, they are a mistake, and found before the training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from instatune_deploy.budget import Budget
from instatune_deploy.config import ObjectiveName
from instatune_deploy.devices import energy, memory
from instatune_deploy.devices.profile import Device
from instatune_deploy.errors import BadInput

FIGURES: dict[ObjectiveName, str] = {"memory": "memory_bytes", "energy": "energy_mj"}
"""By objective: what a `Measurement` calls it."""


def told_by_hosts(objectives: Sequence[ObjectiveName], budget: Budget | None) -> tuple[str, ...]:
    """The figures that every measurement must have, as a `Measurement` calls them."""
    limited = {"memory"} if budget is not None and budget.memory_bytes is not None else set()
    return tuple(figure for name, figure in FIGURES.items() if name in {*objectives, *limited})


def check_told(figures: Iterable[str], devices: Iterable[Device]) -> None:
    """``BadInput`` for one of `told_by_hosts` that this host does not tell of ``devices``."""
    for figure in figures:
        if figure == "memory_bytes" and (not memory.forget_peak() or memory.peak_bytes() is None):
            raise BadInput("memory: only Linux tells how much a process takes at most, and this host does not")
        if figure == "energy_mj":
            if not energy.counted():
                raise BadInput(
                    f"energy: this host does not tell it; no counter below {energy.COUNTERS} can be read (try as root)"
                )
            others = [f"{run} of device '{device.name}'" for device in devices for run in device.runs if run.provider != "cpu"]
            if others:
                raise BadInput(f"energy: the counters are those of the processors, and say nothing of {others[0]}")
