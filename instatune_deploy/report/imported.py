"""What a person sees of measurements that were taken in from another device."""

from __future__ import annotations

from instatune_deploy.devices.imports import Imported
from instatune_deploy.words import counted


def imported_lines(imported: Imported) -> list[str]:
    """How many were new, known, not believed, and why."""
    host = imported.host
    what = host.board or host.cpu_model or host.machine
    lines = [
        f"{counted(imported.new, 'new measurement')} of {imported.device} "
        f"({what}, {counted(host.cores, 'core')}, host {host.fingerprint}); {imported.known} known already"
    ]
    if imported.doubted:
        lines.append(f"{sum(imported.doubted.values())} of them not believed:")
        lines += [f"  {count}: {why}" for why, count in sorted(imported.doubted.items(), key=lambda item: (-item[1], item[0]))]
    return lines
