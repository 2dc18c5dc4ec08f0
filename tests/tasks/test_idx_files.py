from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from instatune_deploy.config import DataSettings
from instatune_deploy.errors import BadInput
from instatune_deploy.tasks.idx_files import is_idx_folder, read_idx


def idx(values: Any, magic: int | None = None) -> bytes:
    array = np.asarray(values, dtype=np.uint8)
    return struct.pack(f">{1 + array.ndim}I", magic or 0x800 + array.ndim, *array.shape) + array.tobytes()


IMAGES = np.arange(24).reshape(2, 3, 4)
FILES = {"train-images-idx3-ubyte": idx(IMAGES), "train-labels-idx1-ubyte": idx([7, 0])}


def put(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def read(folder: Path, **settings: Any) -> Any:
    return read_idx(folder, DataSettings(reference=str(folder), **settings))


def test_train_and_test_in_any_spelling(tmp_path):
    files = {
        "train-images.idx3-ubyte": FILES["train-images-idx3-ubyte"],
        "train-labels-idx1-ubyte.gz": gzip.compress(FILES["train-labels-idx1-ubyte"]),
        "t10k-images.idx3-ubyte.gz": gzip.compress(idx([[[5]]])),
        "t10k-labels-idx1-ubyte.gz": idx([9]),  # unpacked by a browser that left the name
    }
    assert not is_idx_folder(tmp_path)
    found = read(put(tmp_path, files))
    assert is_idx_folder(tmp_path)
    assert list(found) == ["train", "test"]
    images, labels = found["train"]
    assert [image.tolist() for image in images] == IMAGES.tolist()
    assert all(image.dtype == np.uint8 for image in images)
    assert list(labels.items()) == [(1, 7), (2, 0)]
    images, labels = found["test"]
    assert [image.tolist() for image in images] == [[[5]]]
    assert list(labels.items()) == [(1, 9)]


def test_training_files_are_enough(tmp_path):
    assert list(read(put(tmp_path, FILES))) == ["train"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train-labels-idx1-ubyte": idx([7])}, r"train-images-idx3-ubyte: 2 images, but .*train-labels-idx1-ubyte has 1 labels"),
        (
            {"train-images-idx3-ubyte": idx(IMAGES, magic=0x801)},
            r"train-images-idx3-ubyte: begins with 0x00000801, an IDX file like this with 0x00000803",
        ),
        ({"train-images-idx3-ubyte": idx(IMAGES, magic=0xD03)}, "begins with 0x00000d03"),
        ({"train-images-idx3-ubyte": idx(IMAGES)[:-1]}, r"its header says 2 x 3 x 4 bytes after it \(24\); there are 23"),
        ({"train-images-idx3-ubyte": idx(IMAGES) + b"!"}, r"there are 25"),
        ({"train-images-idx3-ubyte": idx(IMAGES)[:9]}, r"9 bytes are less than the header of an IDX file \(16\)"),
        ({"train-images-idx3-ubyte": struct.pack(">4I", 0x803, *[2**32 - 1] * 3)}, r"its header says 4294967295 x"),
        ({"train-images-idx3-ubyte": idx(np.zeros((0, 3, 4)))}, "train-images-idx3-ubyte: the file has no rows"),
        ({"train-images-idx3-ubyte": gzip.compress(idx(IMAGES))[:-9]}, "not a whole gzip file"),
        ({"train-images-idx3-ubyte": b"\x1f\x8bnothing"}, "not a whole gzip file"),
        ({"t10k-images-idx3-ubyte": idx(IMAGES)}, r"no file t10k-labels-idx1-ubyte, compressed \(\.gz\) or not"),
    ],
)
def test_bad_files(tmp_path, changes, message):
    with pytest.raises(BadInput, match=message) as caught:
        read(put(tmp_path, {**FILES, **changes}))
    assert "\n" not in caught.value.message


def test_no_training_files_and_names_for_splits(tmp_path):
    put(tmp_path, {"t10k-images-idx3-ubyte": idx(IMAGES), "t10k-labels-idx1-ubyte": idx([7, 0])})
    with pytest.raises(BadInput, match="no file train-images-idx3-ubyte"):
        read(tmp_path)
    with pytest.raises(BadInput, match="'splits' names the splits"):
        read(tmp_path, splits={"train": "t10k"})
