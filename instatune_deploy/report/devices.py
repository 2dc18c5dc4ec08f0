"""The list of hardware profiles, and which of them this host is."""

from __future__ import annotations

from collections.abc import Sequence

from instatune_deploy.config import ProfileSettings
from instatune_deploy.devices.host import Host
from instatune_deploy.devices.profile import resolve
from instatune_deploy.errors import BadInput
from instatune_deploy.words import counted


def device_lines(profiles: Sequence[ProfileSettings], host: Host) -> list[str]:
    """What ``instatune-deploy devices`` prints."""
    memory = f"{host.memory_bytes / 2**30:.0f} GiB"
    lines = [f"this host: {host.cpu_model or host.machine}, {counted(host.cores, 'core')}, {memory}, {host.os}", ""]
    for profile in profiles:
        lines.append(f"{profile.name}: {profile.description}")
        try:
            device = resolve(profile, host)
        except BadInput as error:
            lines.append(f"    not here: {error.message}")
        else:
            runs = ", ".join(map(str, device.runs))
            lines.append(
                f"    served by this host: {runs}; {counted(device.threads, 'thread')}, batch {device.batch_size}, "
                f"{device.sequence_length} tokens, budgets mean {device.statistic}"
            )
            lines += [f"    {item.run} is left out: this host lacks {', '.join(item.missing)}" for item in device.skipped]
        lines.append(f"    tried on: {profile.tried_on or 'nothing yet'}")
    return lines
