"""Hardware profiles: what a device is, and whether this host is one."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from instatune_deploy.config import ProfileSettings, Requirements, RunSettings, Statistic, TimingSettings
from instatune_deploy.devices.deployment import Deployment
from instatune_deploy.devices.host import Host
from instatune_deploy.devices.runs import Run
from instatune_deploy.devices.runtimes.modules import installed
from instatune_deploy.devices.runtimes.registry import check_run, missing_for
from instatune_deploy.errors import BadInput
from instatune_deploy.resources import find_resource, resource_folder, resource_names
from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.yamlfile import load_yaml, place

FOLDER = "hardware_profiles"


@dataclass(frozen=True)
class SkippedRun:
    """A run of the profile that this host cannot serve, and what it lacks."""

    run: Run
    missing: tuple[str, ...]


RUNS_PER_WINDOW: dict[Statistic, int] = {"p50": 1, "p90": 10, "p99": 100}
"""Of three windows: with fewer runs there is no upper confidence limit (`statistics.limits`)."""


@dataclass(frozen=True)
class Device:
    """A hardware profile on a host that serves it, nothing left open.

    runs:            what the host can run, in the profile's order; at least one
    skipped:         what it cannot, and why
    sequence_length: tokens of one input
    image_size:      pixels of an image's edge; None where inputs are no images
    statistic:       the latency that a budget without a percentile means
    timing:          the measuring protocol
    """

    name: str
    runs: tuple[Run, ...]
    skipped: tuple[SkippedRun, ...]
    batch_size: int
    sequence_length: int
    statistic: Statistic
    timing: TimingSettings
    settings: ProfileSettings
    host: Host
    image_size: int | None = None

    @property
    def size(self) -> int:
        """Of one input: pixels of an image's edge, tokens of anything else."""
        return self.sequence_length if self.image_size is None else self.image_size

    @property
    def size_text(self) -> str:
        """For people."""
        return f"{self.sequence_length} tokens" if self.image_size is None else f"{self.image_size} x {self.image_size} px"

    def judged_by(self, statistic: Statistic) -> Device:
        """The same with a protocol of enough runs to say, with confidence, what ``statistic`` stays below."""
        least = max(self.timing.min_runs_per_window, RUNS_PER_WINDOW[statistic])
        return replace(self, timing=self.timing.model_copy(update={"min_runs_per_window": least}))

    def deployment(self, architecture: Architecture, run: Run) -> Deployment:
        """``architecture``, run as this device does it."""
        return Deployment(
            architecture, run.runtime, run.precision, run.threads, self.batch_size, self.sequence_length, run.provider
        )


def load_profile(name_or_path: str) -> ProfileSettings:
    """The profile of that name, or of a YAML file. ``BadInput`` names file, line, key and what would be right."""
    path = find_resource(FOLDER, name_or_path, "hardware profile")
    settings = load_yaml(path, ProfileSettings)
    if _is_shipped(path) and settings.name != path.stem:
        raise BadInput(f"{path}: name: the profile in this file must be called '{path.stem}' (found '{settings.name}')")
    for index, run in enumerate(settings.runs):
        try:
            check_run(run.runtime, run.precision, run.provider)
        except BadInput as error:
            raise BadInput(f"{place(path, ('runs', index))}: {error.message}") from error
    return settings


def all_profiles() -> list[ProfileSettings]:
    """Every shipped profile, by name."""
    return [load_profile(name) for name in resource_names(FOLDER)]


def missing(requirements: Requirements, host: Host) -> list[str]:
    """What ``host`` lacks, each as a phrase that follows "it needs"; empty when it has everything."""
    phrases = []
    if requirements.machine and host.machine not in requirements.machine:
        phrases.append(f"machine type {' or '.join(requirements.machine)} ({host.machine} here)")
    system = host.os.partition(" ")[0]
    if requirements.os and system not in requirements.os:
        phrases.append(f"system {' or '.join(requirements.os)} ({system or 'unknown'} here)")
    for what, pattern, name in (("board", requirements.board, host.board), ("CPU model", requirements.cpu_model, host.cpu_model)):
        if pattern and not re.search(pattern, name, re.IGNORECASE):
            phrases.append(f"a {what} like '{pattern}' ({name or 'none'} here)")
    phrases += [f"CPU flag {flag}" for flag in requirements.cpu_flags if flag not in host.cpu_flags]
    if requirements.any_cpu_flag and host.cpu_flags.isdisjoint(requirements.any_cpu_flag):
        phrases.append(f"CPU flag {' or '.join(requirements.any_cpu_flag)}")
    if host.cores < requirements.min_cores:
        phrases.append(f"at least {requirements.min_cores} cores ({host.cores} here)")
    phrases += [f"package {package}" for package in requirements.packages if not installed(package)]
    return phrases


def resolve(settings: ProfileSettings, host: Host) -> Device:
    """The device that ``host`` is under a profile. ``BadInput`` says which requirement is missing."""
    cannot = f"hardware profile '{settings.name}' cannot be served by this host"
    lacks = missing(settings.requires, host)
    if lacks:
        raise BadInput(f"{cannot}: it needs {', '.join(lacks)}")
    threads = _threads(settings, host, cannot)
    runs, skipped = [], []
    for item in settings.runs:
        ways = [Run(item.runtime, item.precision, count, item.provider) for count in threads]
        lacks = _missing_for_run(item, host)
        if lacks:
            skipped.append(SkippedRun(ways[0], tuple(lacks)))
        else:
            runs += ways
    if not runs:
        raise BadInput(f"{cannot}: " + "; ".join(f"{item.run} needs {', '.join(item.missing)}" for item in skipped))
    return Device(
        name=settings.name,
        runs=tuple(runs),
        skipped=tuple(skipped),
        batch_size=settings.batch_size,
        sequence_length=settings.sequence_length,
        statistic=settings.statistic,
        timing=settings.timing,
        settings=settings,
        host=host,
    )


def _threads(settings: ProfileSettings, host: Host, cannot: str) -> list[int]:
    """The numbers of threads that are tried, each once, in the profile's order."""
    given = settings.threads if isinstance(settings.threads, list) else [settings.threads]
    counts = list(dict.fromkeys(host.cores if count == "all" else count for count in given))
    if max(counts) > host.cores:
        raise BadInput(
            f"{cannot}: it runs {max(counts)} threads, and there are {host.cores} cores; set 'threads' to at most that"
        )
    return counts


def _missing_for_run(run: RunSettings, host: Host) -> list[str]:
    """A run needs what it says, and without saying its runtime's package and provider and what its precision takes."""
    package = run.runtime
    named = [*run.requires.packages, *([] if package in run.requires.packages else [package])]
    lacks = missing(run.requires.model_copy(update={"packages": named}), host)
    return lacks or missing_for(run.runtime, run.precision, run.provider, host.cpu_flags)


def _is_shipped(path: Path) -> bool:
    return path.resolve().parent == resource_folder(FOLDER).resolve()
