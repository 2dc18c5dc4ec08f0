from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from instatune_deploy.config import DataSettings
from instatune_deploy.errors import BadInput
from instatune_deploy.tasks.image_processing import Preprocessing
from instatune_deploy.tasks.image_task import ImageTask, load_image_task

CONFIG = SimpleNamespace(image_size=16, patch_size=4)
COUNTS = {"train": 6, "validation": 2, "test": 4}


def positions(config: Any) -> int:
    edge = config.image_size // 4
    return edge * edge + 1


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for split, count in COUNTS.items():
        for label in ("cat", "dog"):
            folder = tmp_path / "photos" / split / label
            folder.mkdir(parents=True)
            for index in range(count // 2):
                Image.fromarray(rng.integers(0, 256, (20, 18, 3), dtype=np.uint8)).save(folder / f"{index}.png")
    return tmp_path / "photos"


def task(photos: Path, **settings: Any) -> ImageTask:
    chosen = DataSettings(reference=str(photos), **settings)
    return load_image_task(chosen, photos.parent, CONFIG, positions)


def test_what_a_pipeline_asks_for(photos: Path) -> None:
    made = task(photos, image_size=8)
    assert (made.unit, made.largest, made.axes, made.counts) == ("px", 8, ("batch",), COUNTS)
    assert made.label_names == ["cat", "dog"]
    assert (made.tokens(8), made.tokens(16)) == (5, 17)
    assert made.size_on(sequence_length=3) == 8  # a profile's tokens are those of texts
    arrays = made.arrays("test", 8)["pixel_values"]
    assert (arrays.shape, arrays.dtype) == ((4, 3, 8, 8), np.float32)


def test_sizes_smaller_than_those_of_the_training(photos: Path) -> None:
    made = task(photos, image_size=16)
    assert [made.size_on(128, said) for said in (None, 8, 16, 32)] == [16, 8, 16, 16]
    with pytest.raises(BadInput, match="image_size: 10 px are no multiple of the model's patch of 4 px; 8 or 12 are"):
        made.size_on(128, 10)
    # prepared from the image itself, not from what was prepared before
    np.testing.assert_array_equal(
        made.arrays("test", 8)["pixel_values"], task(photos, image_size=8).arrays("test", 8)["pixel_values"]
    )
    assert made.arrays("test", 16)["pixel_values"].shape == (4, 3, 16, 16)
    made.save(photos, 8)
    assert Preprocessing.of(photos, None, 16).size == (8, 8)
    described = made.described(photos, ["pixel_values"], 8)
    assert described is not None
    assert described["resize"] == [8, 8]


@pytest.mark.parametrize(("labels", "has"), [(2, False), (5, False), (6, True)])
def test_of_five_labels_one_of_five_guesses_is_always_right(photos: Path, labels: int, has: bool) -> None:
    names = ["cat", "dog", "cow", "hen", "pig", "rat"]
    assert task(photos, labels=names[:labels]).has_top5 is has


def test_what_is_left_out_is_counted_and_named(photos: Path) -> None:
    assert task(photos).warnings == []
    bad = photos / "train" / "cat" / "0.png"
    bad.write_text("no picture")
    first, second = task(photos).warnings
    assert first == "1 image left out, as unreadable:"
    assert second.startswith(f"{bad}: is no image")


def test_every_row_once_in_batches_and_one_by_one(photos: Path) -> None:
    made = task(photos)
    whole = made.arrays("test", 16)["pixel_values"]
    batches = list(made.batches("test", 16, 3))
    assert [indices.tolist() for indices, _ in batches] == [[0, 1, 2], [3]]
    np.testing.assert_array_equal(np.concatenate([part["pixel_values"] for _, part in batches]), whole)
    np.testing.assert_array_equal(made.arrays("test", 16, [2, 2])["pixel_values"], whole[[2, 2]])


def test_what_is_too_large_to_be_kept_is_computed_again(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = task(photos).arrays("test", 16)["pixel_values"]
    monkeypatch.setattr("instatune_deploy.tasks.image_task.KEPT_BYTES", 0)
    made = task(photos)
    np.testing.assert_array_equal(made.arrays("test", 16)["pixel_values"], kept)
    assert not made._kept


def test_training_images_are_augmented_anew_in_every_epoch(photos: Path) -> None:
    rows = task(photos, augmentation="light").training_rows(seed=3)
    assert len(rows) == 6
    first = [row["pixel_values"] for row in rows]
    np.testing.assert_array_equal([row["pixel_values"] for row in rows], first)  # a continued training sees the same
    rows.set_epoch(1)
    assert any((row["pixel_values"] != before).any() for row, before in zip(rows, first, strict=True))
    plain = task(photos, augmentation="none")
    np.testing.assert_array_equal(plain.training_rows(0)[1]["pixel_values"], plain.arrays("train", 16)["pixel_values"][1])
    assert [row["labels"] for row in rows] == [0, 0, 0, 1, 1, 1]


def test_what_weights_and_accuracies_depend_on(photos: Path) -> None:
    assert task(photos).trained_on() != task(photos, image_size=8).trained_on()
    assert task(photos).rows_key("test") != task(photos, image_size=8).rows_key("test")
    assert task(photos).rows_key("test") != task(photos).rows_key("validation")
    assert task(photos).rows_key("test") == task(photos, augmentation="flip").rows_key("test")


def test_samples_are_images_to_look_at(photos: Path, tmp_path: Path) -> None:
    made = task(photos)
    assert made.samples("test", 3, tmp_path) == [
        {"label": "cat", "image": "samples/0.png"},
        {"label": "cat", "image": "samples/1.png"},
        {"label": "dog", "image": "samples/2.png"},
    ]
    found = made.processing.apply(Image.open(tmp_path / "samples" / "2.png"))
    np.testing.assert_array_equal(found, made.arrays("test", 16, [2])["pixel_values"][0])


@pytest.mark.parametrize(
    ("config", "settings", "message"),
    [
        ({"image_size": 18}, {}, r"config.json: image_size 18 is no multiple of patch_size 4$"),
        ({"image_size": [16, 12]}, {}, r"config.json: image_size \[16, 12\] is no square"),
        ({}, {"image_size": 10}, r"^data.image_size: 10 px are no multiple of the model's patch of 4 px; 8 or 12 are$"),
    ],
)
def test_sizes_that_do_not_fit(photos: Path, config: dict[str, Any], settings: dict[str, Any], message: str) -> None:
    changed = SimpleNamespace(**{**vars(CONFIG), **config})
    with pytest.raises(BadInput, match=message):
        load_image_task(DataSettings(reference=str(photos), **settings), photos.parent, changed, positions)
