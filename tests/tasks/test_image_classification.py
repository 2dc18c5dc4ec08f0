from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from instatune_deploy.config import DataSettings, SplitSettings
from instatune_deploy.errors import BadInput
from instatune_deploy.tasks.image_classification import ImageData, load_images
from instatune_deploy.tasks.images import open_image

from .pictures import plain
from .test_idx_files import idx


def fill(root: Path, count: int, bad: int = 0) -> Path:
    """``count`` images of the grey values 0, 1, ..., the even ones in one class, the odd ones in the other."""
    for number in range(count):
        path = root / ("odd" if number % 2 else "even") / f"{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(plain(number) if number >= bad else plain(number)[:40])
    return root


def load(root: Path, test: int = 3, validation: int = 4, **settings: Any) -> ImageData:
    return load_images(DataSettings(reference=str(root), split=SplitSettings(test=test, validation=validation), **settings))


def shades(data: ImageData) -> dict[str, list[int]]:
    return {split: [np.asarray(open_image(source))[0, 0, 0] for source in sources] for split, sources in data.images.items()}


def test_one_folder_becomes_three_splits(tmp_path):
    data = load(fill(tmp_path, 20))
    assert {split: len(sources) for split, sources in data.images.items()} == {"train": 13, "validation": 4, "test": 3}
    assert data.label_names == ["even", "odd"]
    assert (data.left_out, data.warnings) == (0, [])
    found = shades(data)
    for split, values in found.items():
        assert data.labels[split].dtype == np.int64
        assert data.labels[split].tolist() == [value % 2 for value in values]
    order = np.random.default_rng(0).permutation(20)
    rows = [*range(0, 20, 2), *range(1, 20, 2)]  # class by class
    assert found["test"] == [rows[index] for index in order[:3]]
    assert sorted(value for values in found.values() for value in values) == list(range(20))


def test_train_rows_leave_the_other_splits_alone(tmp_path):
    whole, part = load(fill(tmp_path, 30)), load(tmp_path, train_rows=12)
    assert part.images["test"] == whole.images["test"]
    assert len(part.images["train"]) == 12
    assert set(part.images["train"]) < set(whole.images["train"])


def test_digits_with_and_without_names(tmp_path):
    pixels = np.arange(10 * 4).reshape(10, 2, 2)
    for part in ("train", "t10k"):
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(idx(pixels))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx([2, 0, 1, 0, 1, 2, 0, 1, 2, 0]))
    data = load(tmp_path)
    assert data.label_names == ["0", "1", "2"]
    assert data.labels["test"].tolist() == [2, 0, 1, 0, 1, 2, 0, 1, 2, 0]
    assert np.array_equal(data.images["test"][3], pixels[3])
    named = load(tmp_path, labels=["shirt", "shoe", "bag"])
    assert named.label_names == ["shirt", "shoe", "bag"]
    assert named.labels["test"].tolist() == data.labels["test"].tolist()
    assert named.key != data.key


def test_the_key_changes_with_everything_that_counts_and_nothing_else(tmp_path):
    root = fill(tmp_path / "a", 20)
    key = load(root).key
    assert load(root).key == key
    assert load(fill(tmp_path / "elsewhere", 20)).key == key
    assert load(root, image_size=32).key == key
    assert load(root, labels=["odd", "even"]).key != key
    assert load(root, train_rows=9).key != key
    (root / "odd" / "0001.png").write_bytes(plain(1, "BMP"))
    assert load(root).key != key


def test_a_few_that_cannot_be_read_are_left_out_and_named(tmp_path):
    data = load(fill(tmp_path, 30, bad=10))
    assert data.left_out == 10
    assert len(data.warnings) == 10
    assert all("truncated" in line or "image" in line for line in data.warnings)
    assert {Path(line.split(": ")[0]) for line in data.warnings} == {
        tmp_path / ("odd" if number % 2 else "even") / f"{number:04}.png" for number in range(10)
    }
    assert sorted(value for values in shades(data).values() for value in values) == list(range(10, 30))


def test_many_that_cannot_be_read_are_a_mistake(tmp_path):
    said = r"data: 11 of 30 images cannot be read, and no more than 10 are left out: .*0000\.png"
    with pytest.raises(BadInput, match=said + r".*; \.\.\.$") as caught:
        load(fill(tmp_path, 30, bad=11))
    assert caught.value.message.count(".png") == 3


def test_what_is_wrong_with_several_is_said_once(tmp_path):
    fill(tmp_path, 30)
    names = [str(tmp_path / "even" / f"{number:04}.png") for number in range(0, 24, 2)]
    for name in names:
        Path(name).write_text("no picture")
    with pytest.raises(BadInput) as caught:
        load(tmp_path)
    first = ", ".join(names[:3])
    assert f": {first}: is no image of a known kind (" in caught.value.message
    assert caught.value.message.endswith("); ...")


def test_a_class_that_no_image_is_left_of(tmp_path):
    """Few enough to be left out, and then nobody would be told of the class."""
    fill(tmp_path, 30)
    (tmp_path / "none").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "none" / name).write_text("no picture")
    with pytest.raises(BadInput, match=r"^data: all: not one of 2 images of 'none' can be read: .*a\.png, .*b\.png: is no image"):
        load(tmp_path)


def test_rows_of_tables_are_named_by_their_number(tmp_path):
    import pandas as pd

    images = [plain(number) for number in range(12)]
    images[4] = b"nothing"
    pd.DataFrame({"image": images, "label": ["a", "b"] * 6}).to_parquet(tmp_path / "a.parquet")
    data = load(tmp_path / "a.parquet")
    assert data.warnings == ["all: row 5: " + data.warnings[0].removeprefix("all: row 5: ")]
    assert "no image of a known kind" in data.warnings[0]
    assert sum(len(labels) for labels in data.labels.values()) == 11


def test_not_one_that_can_be_read(tmp_path):
    with pytest.raises(BadInput, match=r"data: all: not one of 8 images can be read: .*0000\.png, "):
        load(fill(tmp_path, 8, bad=8))


@pytest.mark.parametrize(
    ("count", "settings", "message"),
    [
        (0, {}, "no images in class folders"),
        (1, {}, "every row has the label 'even'"),
        (7, {}, "7 rows are too few for 3 test and 4 validation rows"),
        (20, {"labels": ["even", "uneven"]}, "label 'odd' is not one of the known labels: even, uneven"),
    ],
)
def test_bad_data(tmp_path, count, settings, message):
    with pytest.raises(BadInput, match=message):
        load(fill(tmp_path, count), **settings)
