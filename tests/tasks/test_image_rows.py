from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pytest
from huggingface_hub import constants

from instatune_deploy.config import DataSettings
from instatune_deploy.errors import BadInput
from instatune_deploy.tasks import hub
from instatune_deploy.tasks.image_rows import read_images

from .pictures import plain
from .test_idx_files import FILES


def read(reference: Path | str, **settings: Any) -> dict[str, tuple[list[Any], list[Any]]]:
    found = read_images(DataSettings(reference=str(reference), **settings))
    return {split: (sources, list(labels)) for split, (sources, labels) in found.items()}


def parquet(path: Path, images: list[Any], labels: list[Any] | None = None, column: str = "image") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame({column: images, "label": labels or [number % 2 for number in range(len(images))]}).to_parquet(path)
    return path


def test_what_a_folder_is(tmp_path):
    for name in ("cat/1.png", "dog/2.png"):
        (tmp_path / "classes" / name).parent.mkdir(parents=True)
        (tmp_path / "classes" / name).write_bytes(plain(1))
    (tmp_path / "classes" / "labels.csv").write_text("no table of a split")
    (tmp_path / "mnist").mkdir()
    for name, content in FILES.items():
        (tmp_path / "mnist" / name).write_bytes(content)
    parquet(tmp_path / "tables" / "train-00000-of-00001.parquet", [b"one", b"two"])
    expected = [tmp_path / "classes" / "cat" / "1.png", tmp_path / "classes" / "dog" / "2.png"]
    assert read(tmp_path / "classes") == {"all": (expected, ["cat", "dog"])}
    assert read(tmp_path / "classes", format="folder") == read(tmp_path / "classes")
    assert read(tmp_path / "mnist")["train"][1] == [7, 0]
    assert read(tmp_path / "mnist", format="idx")["train"][0][1].tolist() == [
        [12, 13, 14, 15],
        [16, 17, 18, 19],
        [20, 21, 22, 23],
    ]
    assert read(tmp_path / "tables") == {"train": ([b"one", b"two"], [0, 1])}
    with pytest.raises(BadInput, match="no file train-images-idx3-ubyte"):
        read(tmp_path / "classes", format="idx")
    with pytest.raises(BadInput, match=r"is no folder on this machine, and data\.format 'folder' is of one"):
        read(tmp_path / "classes" / "labels.csv", format="folder")
    with pytest.raises(BadInput, match=r"some/data: is no folder on this machine"):
        read("some/data", format="idx")


def test_bytes_paths_and_structures_of_both(tmp_path):
    images = [{"bytes": b"one", "path": "/anywhere/one.png"}, {"bytes": None, "path": "sub/two.png"}]
    assert read(parquet(tmp_path / "a.parquet", images)) == {"all": ([b"one", tmp_path / "sub" / "two.png"], [0, 1])}
    assert read(parquet(tmp_path / "b.parquet", [b"one", b"two"]))["all"][0] == [b"one", b"two"]
    (tmp_path / "c.csv").write_text("label,photo\ncat,x.jpg\ndog,sub/y.jpg\n")
    assert read(tmp_path / "c.csv", image="photo") == {
        "all": ([tmp_path / "x.jpg", tmp_path / "sub" / "y.jpg"], ["cat", "dog"]),
    }


@pytest.mark.parametrize("path", ["../secret.png", "sub/../../secret.png", "/etc/secret.png", "C:\\secret.png", "a\0b.png"])
def test_paths_that_lead_out_of_the_folder(tmp_path, path):
    with pytest.raises(BadInput, match=r"data: all: row 2: the path '.*' leads out of the table's folder; expected one below it"):
        read(parquet(tmp_path / "a.parquet", ["fine.png", path]))
    with pytest.raises(BadInput, match="leads out"):
        read(parquet(tmp_path / "a.parquet", [{"bytes": None, "path": path}] * 2))


def test_links_that_lead_out_of_the_folder(tmp_path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "d" / "inside").mkdir(parents=True)
    (tmp_path / "d" / "out").symlink_to(tmp_path / "secret")
    (tmp_path / "d" / "in").symlink_to(tmp_path / "d" / "inside")
    assert read(parquet(tmp_path / "d" / "a.parquet", ["in/x.png", "inside/x.png"]))["all"][1] == [0, 1]
    with pytest.raises(BadInput, match=r"row 1: the file 'out/x\.png' is outside of '.*d'"):
        read(parquet(tmp_path / "d" / "a.parquet", ["out/x.png", "in/x.png"]))


def test_rows_without_an_image(tmp_path):
    images = [{"bytes": None, "path": None}, None, {"bytes": b"one", "path": None}]
    with pytest.raises(BadInput, match=r"all: 2 rows without an image: row 1, 2$"):
        read(parquet(tmp_path / "a.parquet", images))
    with pytest.raises(BadInput, match=r"all: row 1: expected an image's bytes or path, found 7"):
        read(parquet(tmp_path / "a.parquet", [7, 8]))
    with pytest.raises(BadInput, match=r"all: row 1: expected an image's bytes or path"):
        read(parquet(tmp_path / "a.parquet", [[1, 2], [3, 4]]))


def test_columns(tmp_path):
    path = parquet(tmp_path / "a.parquet", [b"one", b"two"], column="img")
    with pytest.raises(BadInput, match=r"no column 'image' \(data\.image\); the columns are: img, label"):
        read(path)
    with pytest.raises(BadInput, match="image and label are the same column 'label'"):
        read(path, image="label")
    assert read(path, image="img")["all"][0] == [b"one", b"two"]


def make_dataset(values: list[int]) -> datasets.Dataset:
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["dark", "light"])})
    rows = {"image": [{"bytes": plain(value), "path": None} for value in values], "label": [value // 128 for value in values]}
    return datasets.Dataset.from_dict(rows, features=features)


def test_a_datasets_folder(tmp_path):
    datasets.DatasetDict({"train": make_dataset([0, 255]), "test": make_dataset([200])}).save_to_disk(tmp_path / "d")
    assert read(tmp_path / "d") == {"train": ([plain(0), plain(255)], ["dark", "light"]), "test": ([plain(200)], ["light"])}


def test_hub_data_may_name_what_was_downloaded_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    asked: list[str] = []

    def load(name: str, revision: str | None, where: str) -> datasets.Dataset:
        rows = {"image": [{"bytes": None, "path": path} for path in asked], "label": [0] * len(asked)}
        return datasets.Dataset.from_dict(rows, features=features)

    monkeypatch.setattr(hub, "load_data", load)
    asked[:] = [str(tmp_path / "cache" / "x.png")]
    assert read("some/data") == {"all": ([tmp_path / "cache" / "x.png"], [0])}
    for path in ("/etc/secret.png", "secret.png"):
        asked[:] = [path]
        with pytest.raises(BadInput, match=f"row 1: the file '{path}' is outside of what was downloaded of the data set"):
            read("some/data")
    asked[:] = [str(tmp_path / "cache" / ".." / "x.png")]
    with pytest.raises(BadInput, match=r"row 1: the path .* leads out"):
        read("some/data")


def test_a_format_of_images_is_none_of_texts(tmp_path):
    from instatune_deploy.tasks.tables import read_splits

    with pytest.raises(BadInput, match=r"data\.format: 'idx' is of images in a folder"):
        read_splits(DataSettings(reference=str(tmp_path), format="idx"))


def test_pixels_of_idx_files_are_not_copied(tmp_path):
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    first, second = read(tmp_path)["train"][0]
    assert np.shares_memory(first.base, second.base)
