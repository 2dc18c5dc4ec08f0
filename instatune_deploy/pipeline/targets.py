"""What is built: a device, a budget, and what the artifact is called. One on the command line, many in a matrix file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from instatune_deploy.budget import Budget, parse_budgets
from instatune_deploy.config import MatrixSettings, PipelineSettings, ProfileSettings
from instatune_deploy.devices.host import this_host
from instatune_deploy.devices.profile import Device, load_profile, resolve
from instatune_deploy.errors import BadInput, UserError
from instatune_deploy.pipeline.handover import Handover
from instatune_deploy.pipeline.inputs import load_pipeline
from instatune_deploy.resources import find_resource
from instatune_deploy.yamlfile import load_yaml, top_keys

MATRIX_KEY = "targets"
"""A file that has it is a matrix."""


@dataclass(frozen=True)
class Target:
    """name: of the artifact's folder; device: None where this host does not serve it, and ``error`` says why."""

    name: str
    device: Device | None
    budget: Budget | None
    asked: str
    error: UserError | None = None


def load_pipeline_or_matrix(name: str) -> tuple[PipelineSettings, MatrixSettings | None]:
    """The settings of a pipeline; and of the matrix, when that is what the file is. A matrix's pipeline is a file beside it, or
    anything that `--pipeline` may be."""
    path = find_resource("pipelines", name, "pipeline")
    if MATRIX_KEY not in top_keys(path):
        return load_pipeline(name), None
    matrix = load_yaml(path, MatrixSettings)
    beside = path.parent / matrix.pipeline
    is_beside = beside.suffix in {".yaml", ".yml"} and beside.is_file()
    return load_pipeline(str(beside) if is_beside else matrix.pipeline), matrix


def targets_of(devices: Sequence[str], budget: Budget | None, handover: Handover) -> list[Target]:
    """One for each device of the command line, all with one budget. ``BadInput`` for a device that this host does not serve."""
    profiles: dict[str, ProfileSettings] = {}
    for name in devices:
        profile = load_profile(name)
        if profiles.setdefault(profile.name, profile) != profile:
            raise BadInput(f"--device {name}: another profile given is called '{profile.name}' too; rename one of them")
    return [Target(name, _resolved(profile, handover), budget, name) for name, profile in profiles.items()]


def targets_of_matrix(matrix: MatrixSettings, devices: Sequence[str], budget: Budget | None, handover: Handover) -> list[Target]:
    """All of a matrix, or those of ``devices`` only. One that this host does not serve is a target with an error.

    ``BadInput`` for what no host could build: an unknown device, a budget that is none, two targets of one name.
    """
    if budget is not None:
        raise BadInput("--budget: the targets of a matrix have budgets of their own; leave it out")
    chosen = [item for item in matrix.targets if not devices or item.device in devices]
    unknown = [name for name in devices if all(item.device != name for item in matrix.targets)]
    if unknown:
        known = ", ".join(dict.fromkeys(item.device for item in matrix.targets))
        raise BadInput(f"--device {unknown[0]}: the matrix has no target for it; it has {known}")
    found: dict[str, Target] = {}
    for item in chosen:
        several = sum(other.device == item.device for other in matrix.targets) > 1
        limit = parse_budgets([item.budget] if isinstance(item.budget, str) else item.budget or [])
        profile = load_profile(item.device)
        name = item.name or (f"{profile.name}-{_slug(limit)}" if several else profile.name)
        if name in found:
            raise BadInput(f"targets: two are called '{name}'; give one of them a name of its own")
        try:
            device, error = _resolved(profile, handover), None
        except UserError as refused:
            device, error = None, refused
        found[name] = Target(name, device, limit, profile.name, error)
    return list(found.values())


def _resolved(profile: ProfileSettings, handover: Handover) -> Device:
    return handover.served(resolve(profile, this_host()))


def _slug(budget: Budget | None) -> str:
    """``3ms``, ``p50-20ms-size-30mb``: of a budget in a name."""
    return "any" if budget is None else re.sub(r"[^a-z0-9.]+", "-", str(budget).lower())
