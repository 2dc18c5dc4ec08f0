"""Read the labelled images of a task: class folders, IDX files, or a table (`tables`) with a column of images or of their paths.

Nothing is decoded here.
"""

from __future__ import annotations

from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any, Literal

from instatune_deploy.config import DataSettings
from instatune_deploy.errors import BadInput, clear_os_errors
from instatune_deploy.tasks.idx_files import is_idx_folder, read_idx
from instatune_deploy.tasks.image_folders import read_folders
from instatune_deploy.tasks.images import ImageSource
from instatune_deploy.tasks.labels import refuse_rows
from instatune_deploy.tasks.references import HubDataset
from instatune_deploy.tasks.tables import Split, find_source, holds_tables, read_tables

if TYPE_CHECKING:
    import pandas as pd


def read_images(settings: DataSettings) -> dict[Split | Literal["all"], tuple[list[ImageSource], pd.Series]]:
    """The images that ``settings.reference`` means, with their labels: under ``"all"``, or under the splits they come in.

    Labels are indexed by row number from 1, at least one. In tables an image is the bytes of a file, a text with its path below
    the table's folder, or both in a structure (``bytes``, ``path``), as `datasets` writes it. ``BadInput`` names file, row or
    folder.
    """
    source = find_source(settings)
    kind = settings.format or _kind(source, settings)
    if kind not in {"folder", "idx"}:
        return _from_tables(source, settings)
    if isinstance(source, HubDataset) or not source.is_dir():
        raise BadInput(f"{settings.reference}: is no folder on this machine, and data.format '{kind}' is of one")
    return read_idx(source, settings) if kind == "idx" else read_folders(source, settings)


def _kind(source: Path | HubDataset, settings: DataSettings) -> str:
    if isinstance(source, HubDataset) or not source.is_dir():
        return "table"
    with clear_os_errors(f"{source}: cannot be read"):
        if is_idx_folder(source):
            return "idx"
        return "table" if holds_tables(source, settings) else "folder"


# --- tables ----------------------------------------------------------------------------------------------------------


def _from_tables(
    source: Path | HubDataset, settings: DataSettings
) -> dict[Split | Literal["all"], tuple[list[ImageSource], pd.Series]]:
    if settings.image == settings.label:
        raise BadInput(f"data: image and label are the same column '{settings.image}'")
    folder = None if isinstance(source, HubDataset) else source if source.is_dir() else source.parent
    tables = read_tables(source, settings, "image")
    return {split: (_sources(table[settings.image], folder, split), table[settings.label]) for split, table in tables.items()}


def _sources(column: pd.Series, folder: Path | None, split: str) -> list[ImageSource]:
    values = [_stored(value) for value in column]
    refuse_rows([value is None for value in values], column, f"{split}: %d rows without an image")
    roots = [root.resolve() for root in ([folder] if folder else _caches())]
    sources: list[ImageSource] = []
    for row, value in zip(column.index, values, strict=True):
        if isinstance(value, str):
            sources.append(_file(value, folder, roots, f"data: {split}: row {row}"))
        elif isinstance(value, bytes):
            sources.append(value)
        else:
            raise BadInput(f"data: {split}: row {row}: expected an image's bytes or path, found {value!r:.40}")
    return sources


def _stored(value: Any) -> Any:
    """Bytes or a path, or whatever else stands there; None when there is nothing."""
    if isinstance(value, dict) and value.keys() & {"bytes", "path"}:
        content = value.get("bytes")
        value = value.get("path") if content is None else content
    if isinstance(value, bytearray | memoryview):
        value = bytes(value)
    nothing = value is None or (isinstance(value, float) and value != value) or (isinstance(value, str) and not value.strip())
    return None if nothing else value


def _file(text: str, folder: Path | None, roots: list[Path], where: str) -> Path:
    """The file that a row names: below the table's ``folder``, or of a hub data set below the caches of what was downloaded."""
    path = PurePath(text)
    absolute = PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute()
    if "\0" in text or ".." in path.parts or (folder is not None and absolute):
        raise BadInput(f"{where}: the path '{text:.80}' leads out of the table's folder; expected one below it, as a/b.jpg")
    found = Path(path) if folder is None else folder / path
    if not any(found.resolve().is_relative_to(root) for root in roots):
        place = f"'{folder}'" if folder is not None else "what was downloaded of the data set"
        raise BadInput(f"{where}: the file '{text:.80}' is outside of {place}")
    return found


def _caches() -> list[Path]:
    import datasets
    from huggingface_hub.constants import HF_HUB_CACHE

    places = (datasets.config.HF_DATASETS_CACHE, datasets.config.DOWNLOADED_DATASETS_PATH, HF_HUB_CACHE)
    return [Path(place) for place in places]
