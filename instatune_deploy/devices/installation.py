"""What is installed: the packages this one needs, and what the runtimes can compute with. Nothing heavy is imported for it,
but the runtimes themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata

from packaging.requirements import Requirement

from instatune_deploy.devices.gpu import gpu_state
from instatune_deploy.devices.runtimes import modules
from instatune_deploy.devices.runtimes.base import first_line
from instatune_deploy.devices.runtimes.registry import PRECISIONS

OWN_NAME = "instatune-deploy"


@dataclass(frozen=True)
class Package:
    """A package that is needed.

    version: what is installed; None when it is not
    wanted:  what would be right, as in ``>=5.0,<6``; empty when any is
    fits:    whether it is installed in a version that is wanted
    """

    name: str
    version: str | None
    wanted: str
    fits: bool


@dataclass(frozen=True)
class Runtime:
    """A runtime as it is installed.

    version:   None when it is not installed
    packages:  all packages that bring it; more than one overwrite each other
    providers: what it can compute with here
    lacking:   by provider, what it lacks for that
    broken:    why it cannot be loaded; None when it can
    """

    name: str
    version: str | None
    packages: tuple[str, ...]
    providers: tuple[str, ...]
    lacking: dict[str, str]
    broken: str | None = None


@dataclass(frozen=True)
class Installation:
    """Packages and runtimes of this Python.

    needed: None when this package is not installed itself, so that nobody says what it needs
    gpu:    of the first NVIDIA GPU (`gpu.gpu_state`); None when there is none
    """

    needed: tuple[Package, ...] | None
    runtimes: tuple[Runtime, ...]
    gpu: dict[str, str] | None


def installation() -> Installation:
    """Of this Python."""
    brought = metadata.packages_distributions()
    try:
        requirements = metadata.requires(OWN_NAME) or []
    except metadata.PackageNotFoundError:
        needed = None
    else:
        needed = needed_packages(requirements, lambda name: _version(name, brought))
    return Installation(needed, tuple(_runtime(name, brought) for name in PRECISIONS), gpu_state())


def needed_packages(requirements: Iterable[str], version: Callable[[str], str | None]) -> tuple[Package, ...]:
    """Of ``requirements``, as package metadata says them, those of no extra. ``version`` knows what is there."""
    packages = []
    for text in requirements:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        found = version(requirement.name)
        fits = found is not None and requirement.specifier.contains(found, prereleases=True)
        packages.append(Package(requirement.name, found, str(requirement.specifier), fits))
    return tuple(packages)


def _version(name: str, brought: Mapping[str, list[str]]) -> str | None:
    """The version of a package; where another one brings its module (onnxruntime-gpu: onnxruntime), of that one."""
    for package in (name, *brought.get(name, ())):
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return None


def _runtime(name: str, brought: Mapping[str, list[str]]) -> Runtime:
    packages = tuple(sorted(set(brought.get(name, ()))))
    if not modules.installed(name):
        return Runtime(name, None, packages, (), {})
    try:
        module = modules.runtime_module(name)
        lacks = {provider: module.missing_provider(provider) for provider in PRECISIONS[name]}
        version = module.version()
    except Exception as error:  # half-installed packages fail in every way there is
        return Runtime(name, _version(name, brought), packages, (), {}, f"{type(error).__name__}: {first_line(error)}")
    providers = tuple(provider for provider, lack in lacks.items() if lack is None)
    return Runtime(name, version, packages, providers, {key: lack for key, lack in lacks.items() if lack is not None})
