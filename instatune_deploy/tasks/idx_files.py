"""Images and labels in IDX files, as MNIST and its relatives come: big-endian numbers, a header and then bytes."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from instatune_deploy.config import DataSettings
from instatune_deploy.errors import BadInput, clear_os_errors, reason
from instatune_deploy.tasks.images import ImageSource
from instatune_deploy.tasks.tables import Split

if TYPE_CHECKING:
    import pandas as pd

_PARTS: dict[Split, str] = {"train": "train", "test": "t10k"}
"""What the files of a split begin with."""
_DIMENSIONS = {"images": 3, "labels": 1}
_UNSIGNED_BYTE = 0x0800
"""Upper part of the magic number; the lower one counts the dimensions."""
_GZIP = b"\x1f\x8b"


def is_idx_folder(folder: Path) -> bool:
    """Whether a folder has any of the files that `read_idx` reads."""
    return any(_find(folder, split, what) is not None for split in _PARTS for what in _DIMENSIONS)


def read_idx(folder: Path, settings: DataSettings) -> dict[Split | Literal["all"], tuple[list[ImageSource], pd.Series]]:
    """Grey pixels ``(height, width)`` and the numbers that they are labelled with, indexed from 1, for training and for test.

    The files are ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``, ``t10k-...``, with a dot for the second dash or not,
    compressed (``.gz``) or not. ``BadInput`` names the file that is missing, of another kind or not whole.
    """
    import pandas as pd

    if settings.splits:
        raise BadInput(f"{folder}: 'splits' names the splits of a folder or hub data set; IDX files are of train and test")
    found: dict[Split | Literal["all"], tuple[list[ImageSource], pd.Series]] = {}
    for split, part in _PARTS.items():
        paths = {what: _find(folder, split, what) for what in _DIMENSIONS}
        if split == "test" and not any(paths.values()):
            continue
        images, labels = (_read(_there(paths[what], folder, part, what), dimensions) for what, dimensions in _DIMENSIONS.items())
        if len(images) != len(labels):
            raise BadInput(f"{paths['images']}: {len(images)} images, but {paths['labels']} has {len(labels)} labels")
        found[split] = list(images), pd.Series(labels.astype(np.int64), index=range(1, len(labels) + 1))
    return found


def _find(folder: Path, split: Split, what: str) -> Path | None:
    names = (f"{_PARTS[split]}-{what}{dash}idx{_DIMENSIONS[what]}-ubyte{ending}" for dash in "-." for ending in ("", ".gz"))
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _there(path: Path | None, folder: Path, part: str, what: str) -> Path:
    if path is None:
        raise BadInput(f"{folder}: no file {part}-{what}-idx{_DIMENSIONS[what]}-ubyte, compressed (.gz) or not")
    return path


def _read(path: Path, dimensions: int) -> npt.NDArray[np.uint8]:
    """The bytes of a file, in its shape."""
    with clear_os_errors(f"{path}: cannot be read"):
        content = path.read_bytes()
    if content.startswith(_GZIP):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise BadInput(f"{path}: not a whole gzip file: {reason(error)}") from error
    start = 4 + 4 * dimensions
    if len(content) < start:
        raise BadInput(f"{path}: {len(content)} bytes are less than the header of an IDX file ({start})")
    magic, *shape = struct.unpack(f">{1 + dimensions}I", content[:start])
    if magic != _UNSIGNED_BYTE + dimensions:
        raise BadInput(f"{path}: begins with 0x{magic:08x}, an IDX file like this with 0x{_UNSIGNED_BYTE + dimensions:08x}")
    size = math.prod(shape)
    if size == 0:
        raise BadInput(f"{path}: the file has no rows")
    if len(content) != start + size:
        sizes = " x ".join(str(number) for number in shape)
        raise BadInput(f"{path}: its header says {sizes} bytes after it ({size}); there are {len(content) - start}")
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)
