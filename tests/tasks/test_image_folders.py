from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from instatune_deploy.config import DataSettings
from instatune_deploy.errors import BadInput
from instatune_deploy.tasks.image_folders import read_folders


def put(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def read(root: Path, **settings: Any) -> dict[str, list[tuple[str, str]]]:
    """Paths below ``root`` and labels of each split."""
    found = read_folders(root, DataSettings(reference=str(root), **settings))
    for sources, labels in found.values():
        assert list(labels.index) == list(range(1, len(sources) + 1))
    return {
        split: [(path.relative_to(root).as_posix(), label) for path, label in zip(sources, labels, strict=True)]
        for split, (sources, labels) in found.items()
    }


def test_a_folder_for_each_class(tmp_path):
    put(tmp_path, "dog/b.JPG", "dog/a.jpeg", "cat/c.Png", "cat/notes.txt", "cat/.hidden.jpg", ".git/x.jpg", "README.md")
    assert read(tmp_path) == {"all": [("cat/c.Png", "cat"), ("dog/a.jpeg", "dog"), ("dog/b.JPG", "dog")]}
    _, labels = read_folders(tmp_path, DataSettings(reference="x"))["all"]
    assert list(labels.cat.categories) == ["cat", "dog"]


def test_classes_that_are_numbers_stand_in_their_order(tmp_path):
    put(tmp_path, "10/a.jpg", "9/a.jpg", "0/a.jpg")
    _, labels = read_folders(tmp_path, DataSettings(reference="x"))["all"]
    assert list(labels.cat.categories) == ["0", "9", "10"]


@pytest.mark.parametrize("name", ["validation", "valid", "val", "dev"])
def test_splits(tmp_path, name):
    put(tmp_path, "train/a/1.png", "train/b/2.png", f"{name}/a/3.png", "test/b/4.png", "extra/c/5.png")
    assert read(tmp_path) == {
        "train": [("train/a/1.png", "a"), ("train/b/2.png", "b")],
        "validation": [(f"{name}/a/3.png", "a")],
        "test": [("test/b/4.png", "b")],
    }


def test_splits_that_are_named(tmp_path):
    put(tmp_path, "train/a/1.png", "train/b/2.png", "val/a/3.png", "held/a/4.png")
    assert list(read(tmp_path, splits={"test": "held"})) == ["train", "validation", "test"]
    assert list(read(tmp_path, splits={"test": "val"})) == ["train", "test"]
    with pytest.raises(BadInput, match=r"no split 'heldd' \(data\.splits\.test\); there are: held, train, val"):
        read(tmp_path, splits={"test": "heldd"})


def test_test_images_without_classes_are_no_split(tmp_path):
    put(tmp_path, "train/a/1.png", "train/b/2.png", "test/9.png")
    assert list(read(tmp_path)) == ["train"]


def test_trains_are_a_class_beside_others(tmp_path):
    put(tmp_path, "train/1.png", "car/2.png")
    assert read(tmp_path) == {"all": [("car/2.png", "car"), ("train/1.png", "train")]}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a/1.png", "b/notes.txt"], r"/b: no image in this class folder \(jpg, jpeg, png, .*\); put some there or remove"),
        (["a/deeper/1.png", "b/1.png"], r"/a: no image in this class folder"),
        (["train/a/1.png", "train/b/.1.png"], r"/train/b: no image in this class folder"),
        (["1.png"], r"no images in class folders; they are expected as .*/CLASS/NAME\.jpg"),
        ([], r"no images in class folders"),
        (["train/1.png", "test/2.png"], r"no class folders in test and train; images are expected as .*/train/CLASS/NAME\.jpg"),
        (["val/a/1.png", "other/a/1.png"], r"no folder 'train' with class folders; there are: other, val"),
        (["train/a/1.png", "test/aa/1.png"], r"the test split has a class folder 'aa', the training split has none"),
    ],
)
def test_bad_folders(tmp_path, names, message):
    with pytest.raises(BadInput, match=message) as caught:
        read(put(tmp_path, *names))
    assert "\n" not in caught.value.message
