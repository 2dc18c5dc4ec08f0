"""The rows of image classification: labelled images in three fixed splits."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from instatune_deploy.config import DataSettings
from instatune_deploy.digests import digest
from instatune_deploy.errors import BadInput
from instatune_deploy.tasks.image_rows import read_images
from instatune_deploy.tasks.images import ImageSource, Unreadable, check_image
from instatune_deploy.tasks.splits import labelled_splits
from instatune_deploy.tasks.tables import Split
from instatune_deploy.words import counted

if TYPE_CHECKING:
    import pandas as pd

FEW_UNREADABLE, UNREADABLE_SHARE = 10, 0.01
"""More unreadable images than both are a mistake in the data, not dirt."""


@dataclass(frozen=True, eq=False)
class ImageData:
    """Images and class numbers (int64, ``(rows,)``) of each split. ``key`` is a digest of all of it: equal keys, equal data.

    left_out: images that cannot be read, each with a line in ``warnings`` that names it and says why
    """

    images: Mapping[Split, list[ImageSource]]
    labels: Mapping[Split, npt.NDArray[np.int64]]
    label_names: list[str]
    key: str
    left_out: int = 0
    warnings: list[str] = field(default_factory=list)


def load_images(settings: DataSettings) -> ImageData:
    """Read, check, label and split the images that ``settings`` describe; the same images and settings give equal ``ImageData``.

    Every image is decoded once to see that it can be; those that cannot are left out before the split. ``BadInput`` when they
    are many, or all of a class that is to be learned; splits are as in `splits.labelled_splits`.
    """
    found = read_images(settings)
    rows: dict[str, list[tuple[ImageSource, str]]] = {}
    labels: dict[str, pd.Series] = {}
    unreadable: list[Unreadable] = []
    for split, (sources, column) in found.items():
        checked = _check(sources, [f"{split}: row {row}" for row in column.index])
        bad = [sha256 for sha256 in checked if isinstance(sha256, Unreadable)]
        if len(bad) == len(sources):
            raise BadInput(f"data: {split}: not one of {counted(len(sources), 'image')} can be read: {_some(bad)}")
        if split in ("train", "all"):
            _check_classes(checked, column, split)
        unreadable += bad
        rows[split] = [(source, sha256) for source, sha256 in zip(sources, checked, strict=True) if isinstance(sha256, str)]
        labels[split] = column[[isinstance(sha256, str) for sha256 in checked]]
    total = sum(len(sources) for sources, _ in found.values())
    most = max(FEW_UNREADABLE, int(UNREADABLE_SHARE * total))
    if len(unreadable) > most:
        many = f"{len(unreadable)} of {counted(total, 'image')} cannot be read, and no more than {most} are left out"
        raise BadInput(f"data: {many}: {_some(unreadable)}")
    splits = labelled_splits(rows, labels, settings)
    key = digest(
        {
            "images": {split: [sha256 for _, sha256 in kept] for split, kept in splits.rows.items()},
            "labels": {split: numbers.tolist() for split, numbers in splits.labels.items()},
            "label_names": splits.label_names,
        }
    )
    images = {split: [source for source, _ in kept] for split, kept in splits.rows.items()}
    return ImageData(images, splits.labels, splits.label_names, key, len(unreadable), [str(error) for error in unreadable])


def _check_classes(checked: Sequence[str | Unreadable], column: pd.Series, split: str) -> None:
    """``BadInput`` for a class that no image is left of: it would be forgotten without a word."""
    by_label: dict[Any, list[str | Unreadable]] = {}
    for label, sha256 in zip(column, checked, strict=True):
        by_label.setdefault(label, []).append(sha256)
    for label, found in by_label.items():
        bad = [sha256 for sha256 in found if isinstance(sha256, Unreadable)]
        if len(bad) == len(found):
            raise BadInput(f"data: {split}: not one of {counted(len(bad), 'image')} of '{label}' can be read: {_some(bad)}")


def _check(sources: Sequence[ImageSource], names: Sequence[str]) -> list[str | Unreadable]:
    """The SHA-256 of each image, or what is wrong with it."""

    def check(source: ImageSource, name: str) -> str | Unreadable:
        try:
            return check_image(source, name if isinstance(source, bytes) else None)
        except Unreadable as error:
            return error

    with ThreadPoolExecutor(os.cpu_count()) as threads:  # Pillow decodes without the interpreter's lock
        return list(threads.map(check, sources, names))


def _some(bad: Sequence[Unreadable]) -> str:
    """The first three, what is wrong with several of them said once."""
    names: dict[str, list[str]] = {}
    for error in bad[:3]:
        names.setdefault(error.why, []).append(error.name)
    return "; ".join(f"{', '.join(some)}: {why}" for why, some in names.items()) + ("; ..." if len(bad) > 3 else "")
