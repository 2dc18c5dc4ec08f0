"""Images in a folder for each class, ``ROOT/CLASS/*.jpg``, or in one for each split and class, ``ROOT/train/CLASS/*.jpg``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from instatune_deploy.config import DataSettings
from instatune_deploy.errors import BadInput, clear_os_errors
from instatune_deploy.tasks.images import ImageSource
from instatune_deploy.tasks.tables import SPLITS, Split, check_named, split_names

if TYPE_CHECKING:
    import pandas as pd

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff")
"""Of image files, in small or capital letters."""


def read_folders(root: Path, settings: DataSettings) -> dict[Split | Literal["all"], tuple[list[ImageSource], pd.Series]]:
    """Image files in the order of their names, and the names of their classes as categories, indexed from 1.

    Under ``"all"``, or under the splits that have a folder with class folders. What is hidden is passed over. ``BadInput`` names
    the folder that is empty, missing, or not in the training split.
    """
    with clear_os_errors(f"{root}: cannot be read"):
        files = {split: _class_files(folder) for split, folder in _split_folders(root, settings).items()}
    _check_known(files, root)
    names = _sorted(files["all"] if "all" in files else files["train"])
    return {split: _labelled(classes, names) for split, classes in files.items()}


def _split_folders(root: Path, settings: DataSettings) -> dict[Split | Literal["all"], Path]:
    folders = {folder.name: folder for folder in _folders(root)}
    found: dict[Split | Literal["all"], Path] = {}
    known: set[str] = set()
    for split in SPLITS:
        names = split_names(split, settings)
        known.update(names)
        # a folder with images of trains is no split
        name = next((name for name in names if name in folders and _folders(folders[name])), None)
        if name is not None:
            found[split] = folders[name]
    check_named(found, settings, str(root), list(folders))
    if found and "train" not in found:
        wanted = " or ".join(split_names("train", settings))
        raise BadInput(f"{root}: no folder '{wanted}' with class folders; there are: {', '.join(list(folders)[:20])}")
    if not found and folders and set(folders) <= known:
        raise BadInput(f"{root}: no class folders in {' and '.join(folders)}; images are expected as {root}/train/CLASS/NAME.jpg")
    return found or {"all": root}


def _class_files(folder: Path) -> dict[str, list[Path]]:
    """The image files of each class folder."""
    classes = {}
    for path in _folders(folder):
        files = [file for file in path.iterdir() if file.suffix.lower() in ENDINGS and not file.name.startswith(".")]
        if not files:
            raise BadInput(f"{path}: no image in this class folder ({_endings()}); put some there or remove the folder")
        classes[path.name] = sorted(files, key=lambda file: file.name)
    if not classes:
        raise BadInput(f"{folder}: no images in class folders; they are expected as {folder}/CLASS/NAME.jpg ({_endings()})")
    return classes


def _folders(path: Path) -> list[Path]:
    return sorted(found for found in path.iterdir() if found.is_dir() and not found.name.startswith("."))


def _endings() -> str:
    return ", ".join(ending[1:] for ending in ENDINGS)


def _check_known(files: Mapping[Split | Literal["all"], Mapping[str, list[Path]]], root: Path) -> None:
    for split, classes in files.items():
        unknown = sorted(set(classes) - set(files.get("train", classes)))
        if unknown:
            raise BadInput(f"{root}: the {split} split has a class folder '{unknown[0]}', the training split has none")


def _sorted(names: Mapping[str, list[Path]]) -> list[str]:
    """Class names in class order: numbers as numbers."""
    return sorted(names, key=int) if all(name.isdecimal() for name in names) else sorted(names)


def _labelled(classes: Mapping[str, list[Path]], names: list[str]) -> tuple[list[ImageSource], pd.Series]:
    import pandas as pd

    sources: list[ImageSource] = [path for files in classes.values() for path in files]
    labels = [name for name, files in classes.items() for _ in files]
    return sources, pd.Series(pd.Categorical(labels, categories=names), index=range(1, len(labels) + 1))
