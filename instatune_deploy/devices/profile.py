"""Hardware profiles: what a device is, and whether this host is one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from instatune_deploy.config import ProfileSettings, Requirements, RunSettings, Statistic, TimingSettings
from instatune_deploy.devices.deployment import Deployment
from instatune_deploy.devices.host import Host
from instatune_deploy.devices.runtimes.registry import check_precision, entry, installed
from instatune_deploy.errors import BadInput
from instatune_deploy.resources import find_resource, resource_folder, resource_names
from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.yamlfile import load_yaml

FOLDER = "hardware_profiles"


class Run(NamedTuple):
    """One way of running a graph."""

    runtime: str
    precision: str

    def __str__(self) -> str:
        return f"{self.runtime} {self.precision}"


@dataclass(frozen=True)
class SkippedRun:
    """A run of the profile that this host cannot serve, and what it lacks."""

    run: Run
    missing: tuple[str, ...]


@dataclass(frozen=True)
class Device:
    """A hardware profile on a host that serves it, nothing left open.

    runs:            what the host can run, in the profile's order; at least one
    skipped:         what it cannot, and why
    threads:         of one inference
    sequence_length: tokens of one input
    statistic:       the latency that a budget without a percentile means
    timing:          the measuring protocol
    """

    name: str
    runs: tuple[Run, ...]
    skipped: tuple[SkippedRun, ...]
    threads: int
    batch_size: int
    sequence_length: int
    statistic: Statistic
    timing: TimingSettings
    settings: ProfileSettings
    host: Host

    def deployment(self, architecture: Architecture, run: Run) -> Deployment:
        """``architecture``, run as this device does it."""
        return Deployment(architecture, run.runtime, run.precision, self.threads, self.batch_size, self.sequence_length)


def load_profile(name_or_path: str) -> ProfileSettings:
    """The profile of that name, or of a YAML file. ``BadInput`` names file, line, key and what would be right."""
    path = find_resource(FOLDER, name_or_path, "hardware profile")
    settings = load_yaml(path, ProfileSettings)
    if _is_shipped(path) and settings.name != path.stem:
        raise BadInput(f"{path}: name: the profile in this file must be called '{path.stem}' (found '{settings.name}')")
    for run in settings.runs:
        try:
            check_precision(run.runtime, run.precision)
        except BadInput as error:
            raise BadInput(f"{path}: runs: {error.message}") from error
    return settings


def all_profiles() -> list[ProfileSettings]:
    """Every shipped profile, by name."""
    return [load_profile(name) for name in resource_names(FOLDER)]


def missing(requirements: Requirements, host: Host) -> list[str]:
    """What ``host`` lacks, each as a phrase that follows "it needs"; empty when it has everything."""
    phrases = []
    if requirements.machine and host.machine not in requirements.machine:
        phrases.append(f"machine type {' or '.join(requirements.machine)} ({host.machine} here)")
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
    runs, skipped = [], []
    for item in settings.runs:
        run = Run(item.runtime, item.precision)
        lacks = _missing_for_run(item, host)
        if lacks:
            skipped.append(SkippedRun(run, tuple(lacks)))
        else:
            runs.append(run)
    if not runs:
        raise BadInput(f"{cannot}: " + "; ".join(f"{item.run} needs {', '.join(item.missing)}" for item in skipped))
    threads = host.cores if settings.threads == "all" else settings.threads
    if threads > host.cores:
        raise BadInput(f"{cannot}: it runs {threads} threads, and there are {host.cores} cores; set 'threads' to at most that")
    return Device(
        name=settings.name,
        runs=tuple(runs),
        skipped=tuple(skipped),
        threads=threads,
        batch_size=settings.batch_size,
        sequence_length=settings.sequence_length,
        statistic=settings.statistic,
        timing=settings.timing,
        settings=settings,
        host=host,
    )


def _missing_for_run(run: RunSettings, host: Host) -> list[str]:
    """A run needs what it says, and the package of its runtime without saying."""
    package = entry(run.runtime).package
    named = [*run.requires.packages, *([] if package in run.requires.packages else [package])]
    return missing(run.requires.model_copy(update={"packages": named}), host)


def _is_shipped(path: Path) -> bool:
    return path.resolve().parent == resource_folder(FOLDER).resolve()
