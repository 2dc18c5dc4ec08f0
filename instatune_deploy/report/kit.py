"""What a person sees of a kit that was made."""

from __future__ import annotations

from pathlib import Path

from instatune_deploy.devices.plan import Plan
from instatune_deploy.words import counted


def kit_lines(path: Path, plan: Plan, work: Path) -> list[str]:
    """What it is, and what to do with it."""
    graphs = counted(len({item.graph for item in plan.items}), "graph")
    ways = counted(len({item.run for item in plan.items}), "way")
    return [
        f"kit: {path}, {path.stat().st_size / 1e6:.0f} MB: {counted(len(plan.items), 'measurement')} "
        f"({graphs}, {ways} of running them)",
        f"on the device: unpack it, pip install {' '.join(plan.packages)}, python measure.pyz",
        f"then here:     instatune-deploy measurements import results.json --work {work}",
    ]
