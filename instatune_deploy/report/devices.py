"""The list of hardware profiles, and which of them this host is."""

from __future__ import annotations

from collections.abc import Sequence

from instatune_deploy.config import ProfileSettings
from instatune_deploy.devices.host import Host
from instatune_deploy.devices.profile import missing, resolve
from instatune_deploy.devices.runtimes.registry import missing_for
from instatune_deploy.errors import BadInput
from instatune_deploy.words import counted

INDENT, LABEL = 4, 11
"""Columns before a profile's lines, and of the words they begin with."""


def device_lines(profiles: Sequence[ProfileSettings], host: Host) -> list[str]:
    """What ``instatune-deploy devices`` prints: the profiles that match ``host``, then those that do not."""
    memory = f", {host.memory_bytes / 2**30:.0f} GiB" if host.memory_bytes else ""
    name = ", ".join(dict.fromkeys(filter(None, [host.board, host.cpu_model or host.machine])))
    lines = [f"this host: {name}, {counted(host.cores, 'core')}{memory}, {host.os}"]
    blocks = [_block(profile, host) for profile in profiles]
    for matching in (True, False):
        for profile, (matches, found) in zip(profiles, blocks, strict=True):
            if matches == matching:
                lines += ["", f"{profile.name}: {profile.description}", *found]
                lines += _labelled("tried on", [profile.tried_on or "nothing yet"])
    return lines


def _block(profile: ProfileSettings, host: Host) -> tuple[bool, list[str]]:
    """Whether ``host`` matches ``profile``, and the lines that say how or why not."""
    # asked before anything else: no runtime is loaded for a profile that cannot match
    lacks = missing(profile.requires, host)
    if lacks:
        return False, _labelled("not here", [f"it needs {phrase}" for phrase in lacks])
    left_out = _left_out(profile, host)
    try:
        device = resolve(profile, host)
    except BadInput as error:
        every = sum(len(names) for _, names in left_out) == len(profile.runs)
        why = [] if every else [error.message.partition(" by this host: ")[2] or error.message]
        return False, _labelled("not here", [*why, *map(_said, left_out)])
    edge = "" if profile.image_size is None else f", images of {profile.image_size} px"
    how = f"batch {device.batch_size}, {device.sequence_length} tokens{edge}, budgets mean {device.statistic}"
    return True, [
        *_labelled("runs here", list(map(str, device.runs))),
        *_labelled("left out", list(map(_said, left_out))),
        *_labelled("measured", [how]),
    ]


def _left_out(profile: ProfileSettings, host: Host) -> list[tuple[str, list[str]]]:
    """What ``host`` lacks for single runs, each with the runs that need it."""
    runs: dict[str, list[str]] = {}
    for run in profile.runs:
        lacks = missing(run.requires, host) or missing_for(run.runtime, run.precision, run.provider, host.cpu_flags)
        if lacks:
            name = " ".join([run.runtime, *([] if run.provider == "cpu" else [run.provider]), run.precision])
            runs.setdefault(", ".join(lacks), []).append(name)
    return list(runs.items())


def _said(item: tuple[str, list[str]]) -> str:
    lacks, names = item
    return f"{', '.join(names)} {'needs' if len(names) == 1 else 'need'} {lacks}"


def _labelled(label: str, texts: Sequence[str]) -> list[str]:
    """A line for each text, the first of them with the label."""
    first = f"{'':{INDENT}}{label:{LABEL}}"
    return [f"{first if index == 0 else ' ' * len(first)}{text}" for index, text in enumerate(texts)]
