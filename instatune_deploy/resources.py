"""Find what ships with the package: hardware profiles and pipelines, in a source tree and in an installed wheel."""

from __future__ import annotations

import difflib
from pathlib import Path

from instatune_deploy.errors import BadInput

PACKAGE = Path(__file__).parent


def resource_folder(name: str) -> Path:
    """``hardware_profiles`` or ``pipelines``: inside the installed package, or beside it in a source tree."""
    inside = PACKAGE / name
    return inside if inside.is_dir() else PACKAGE.parent / name


def resource_names(folder: str) -> list[str]:
    """The names (without ``.yaml``) of all files of a resource folder, sorted."""
    return sorted(path.stem for path in resource_folder(folder).glob("*.yaml"))


def find_resource(folder: str, name: str, what: str) -> Path:
    """The file that ``name`` means: a path to a YAML file, or the name of a shipped one.

    ``BadInput`` suggests the nearest name. ``what`` is the word for it in the message ("hardware profile").
    """
    path = Path(name)
    if path.suffix in {".yaml", ".yml"}:
        if path.is_file():
            return path
        shipped = resource_folder(folder) / path.name
        # `pipelines/sentiment.yaml` works from any folder, also with an installed wheel
        if path.parent.as_posix() in {folder, "."} and shipped.is_file():
            return shipped
        raise BadInput(f"{what} {name}: no such file")
    names = resource_names(folder)
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(names)}"
        raise BadInput(f"unknown {what} '{name}'; {hint}")
    return resource_folder(folder) / f"{name}.yaml"
