from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from instatune_deploy.errors import BadInput
from instatune_deploy.tasks.image_processing import Preprocessing

from .pictures import noise

HALF = (0.5, 0.5, 0.5)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
VIT = {"image_processor_type": "ViTImageProcessor"}
BIT = {"image_processor_type": "BitImageProcessor"}
SIZES = {"height": 32, "width": 32}
CONFIGS: dict[str, dict[str, Any]] = {
    "vit": {**VIT, "size": SIZES},
    "vit, not square": {**VIT, "size": {"height": 24, "width": 40}, "resample": 3, "image_mean": IMAGENET_MEAN},
    "vit of old": {
        "feature_extractor_type": "ViTFeatureExtractor",
        "size": 32,
        "resample": 2,
        "image_mean": [0.5] * 3,
        "image_std": [0.25] * 3,
    },
    "vit, no rescaling": {**VIT, "size": SIZES, "do_rescale": False, "image_mean": [127.5] * 3, "image_std": [127.5] * 3},
    "vit, no normalising": {**VIT, "size": SIZES, "do_normalize": False},
    "vit, another factor": {**VIT, "size": SIZES, "rescale_factor": 1 / 127.5, "image_mean": [1.0, 0.5, 0.25]},
    "deit": {"image_processor_type": "DeiTImageProcessor"},
    "deit of old": {"feature_extractor_type": "DeiTFeatureExtractor", "size": 40, "crop_size": 32, "do_center_crop": True},
    "bit": {**BIT, "size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}},
    "bit of old": {**BIT, "size": 37, "crop_size": 33, "resample": 1, "image_mean": IMAGENET_MEAN, "image_std": IMAGENET_STD},
    "bit, crop not square": {**BIT, "size": {"shortest_edge": 40}, "crop_size": {"height": 21, "width": 34}},
    "bit, crop beyond the edge": {**BIT, "size": {"shortest_edge": 20}, "crop_size": {"height": 31, "width": 24}},
    "bit, crop only": {**BIT, "do_resize": False, "crop_size": {"height": 30, "width": 31}},
    "bit, to a square": {**BIT, "size": SIZES, "do_center_crop": False},
    "clip": {"image_processor_type": "CLIPImageProcessor"},
}
IMAGES = [noise(50, 64), noise(91, 45, seed=1), noise(33, 33, seed=2), noise(20, 300, seed=3), noise(32, 32, seed=4)]


def write(folder: Path, config: Any) -> Path:
    (folder / "preprocessor_config.json").write_text(json.dumps(config))
    return folder


def theirs(folder: Path, images: list[Image.Image]) -> np.ndarray:
    from transformers import AutoImageProcessor

    processor = AutoImageProcessor.from_pretrained(str(folder), local_files_only=True)
    return np.stack([processor(image, return_tensors="np")["pixel_values"][0] for image in images])


@pytest.mark.parametrize("name", CONFIGS)
def test_it_is_what_transformers_does(tmp_path, name):
    ours = Preprocessing.of(write(tmp_path, CONFIGS[name]), None, 8)
    images = [*IMAGES, noise(40, 52).convert("L").convert("RGB")]
    expected = theirs(tmp_path, images)
    found = ours.batch(images)
    assert found.dtype == np.float32
    assert found.shape == (len(images), 3, *ours.size)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(ours.apply(images[0]), found[0])
    # what is written does the same, here and there
    (tmp_path / "written").mkdir()
    ours.save(tmp_path / "written")
    assert Preprocessing.of(tmp_path / "written", None, 8) == ours
    np.testing.assert_allclose(theirs(tmp_path / "written", images), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_scaled_it_is_square_and_still_what_transformers_does(tmp_path, name):
    made = Preprocessing.of(write(tmp_path, CONFIGS[name]), 16, 8)
    assert made.size == (16, 16)
    assert Preprocessing.of(tmp_path, None, 8).to_config(16) == made.to_config()
    made.save(tmp_path)
    np.testing.assert_allclose(made.batch(IMAGES), theirs(tmp_path, IMAGES), rtol=0, atol=1e-5)


def test_grey_images_have_three_channels(tmp_path):
    made = Preprocessing((1, 1), 2, None, 1 / 255, HALF, (0.5, 0.25, 1.0))
    grey = Image.new("L", (3, 2), 255)
    assert made.apply(grey).tolist() == [[[1.0]], [[2.0]], [[0.5]]]
    # as written, transformers takes them, too
    made.save(tmp_path)
    np.testing.assert_allclose(theirs(tmp_path, [grey])[0], made.apply(grey), rtol=0, atol=1e-6)


def test_the_steps_by_hand():
    # 4 x 2 pixels, their shorter edge is 2 already; the middle two columns are left
    values = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    made = Preprocessing(2, 0, (2, 2), 0.5, (1.0, 2.0, 3.0), (1.0, 2.0, 4.0))
    expected = (values[:, 1:3] * 0.5 - (1, 2, 3)) / (1, 2, 4)
    assert made.apply(Image.fromarray(values)).tolist() == expected.transpose(2, 0, 1).tolist()


def test_a_crop_beyond_the_edge_is_black():
    made = Preprocessing(None, 0, (3, 4), 1.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    assert made.apply(Image.new("RGB", (1, 1), (7, 7, 7)))[0].tolist() == [[0, 0, 0, 0], [0, 0, 7, 0], [0, 0, 0, 0]]


def test_no_images():
    assert Preprocessing((3, 4), 2, None, 1.0, HALF, HALF).batch([]).shape == (0, 3, 3, 4)


def test_what_is_not_said(tmp_path):
    assert Preprocessing.of(tmp_path, None, 48) == Preprocessing((48, 48), 2, None, 1 / 255, HALF, HALF)
    assert Preprocessing.of(tmp_path, 32, 48) == Preprocessing((32, 32), 2, None, 1 / 255, HALF, HALF)
    write(tmp_path, VIT)
    assert Preprocessing.of(tmp_path, None, 48) == Preprocessing((224, 224), 2, None, 1 / 255, HALF, HALF)
    write(tmp_path, {**BIT, "do_pad": False, "auto_map": None, "resample": None, "data_format": "channels_first"})
    expected = Preprocessing(224, 3, (224, 224), 1 / 255, CLIP_MEAN, CLIP_STD)
    assert Preprocessing.of(tmp_path, None, 48) == expected
    write(tmp_path, {"size": {"shortest_edge": 256}})
    (tmp_path / "config.json").write_text('{"model_type": "dinov2"}')
    assert Preprocessing.of(tmp_path, None, 48).resize == 256


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Preprocessing((256, 256), 3, (224, 224), 1.0, HALF, HALF), ((128, 128), (112, 112))),
        (Preprocessing((256, 320), 3, (224, 280), 1.0, HALF, HALF), ((128, 128), (112, 112))),
        (Preprocessing(256, 3, (224, 224), 1.0, HALF, HALF), (128, (112, 112))),
        (Preprocessing((224, 300), 3, None, 1.0, HALF, HALF), ((112, 112), None)),
        (Preprocessing(None, 3, (224, 224), 1.0, HALF, HALF), (None, (112, 112))),
    ],
)
def test_scaled_in_proportion(before, after):
    made = before.scaled(112)
    assert (made.resize, made.crop) == after


def test_steps_for_other_programs():
    assert Preprocessing(256, 3, (224, 220), 1 / 255, IMAGENET_MEAN, IMAGENET_STD).to_json() == {
        "resize": 256,
        "resample": "bicubic",
        "crop": [224, 220],
        "rescale": 1 / 255,
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "channels": "RGB",
        "layout": "NCHW",
    }
    square = Preprocessing((32, 48), 2, None, 1.0, HALF, HALF).to_json()
    assert (square["resize"], square["crop"], square["resample"]) == ([32, 48], None, "bilinear")
    json.dumps(square)


def test_images_of_different_sizes_are_no_input():
    for resize in (None, 224):
        with pytest.raises(ValueError, match="in different sizes"):
            Preprocessing(resize, 2, None, 1.0, HALF, HALF)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ([], "expected a JSON object"),
        ({}, "no 'image_processor_type' that says"),
        ({"image_processor_type": "ConvNextImageProcessor"}, "'image_processor_type' is 'ConvNextImageProcessor'; known are ViT"),
        ({"image_processor_type": ["ViT"]}, "'image_processor_type' is"),
        ({**VIT, "crop_pct": 0.9}, "'crop_pct' is not known"),
        ({**VIT, "do_pad": True}, "'do_pad' is not known"),
        ({**VIT, "auto_map": {"AutoImageProcessor": "code.Processor"}}, "'auto_map' is not known"),
        ({**VIT, "size": {"longest_edge": 32}}, "'size' is .*; expected pixels, as"),
        ({**VIT, "size": 0}, "'size' is 0; expected pixels"),
        ({**VIT, "size": True}, "'size' is True; expected pixels"),
        ({**VIT, "size": [32]}, "'size' is .32.; expected height and width"),
        ({**VIT, "size": {"shortest_edge": 32}}, "'size' leaves images in different sizes"),
        ({**VIT, "do_resize": False}, "'do_resize' leaves images in different sizes"),
        ({**VIT, "do_center_crop": True}, "'do_center_crop' without a 'crop_size'"),
        ({**BIT, "crop_size": {"shortest_edge": 32}}, "'crop_size' is a shortest edge"),
        ({**VIT, "do_resize": 1}, "'do_resize' is 1; expected true or false"),
        ({**VIT, "resample": 9}, "'resample' is 9; expected Pillow's number"),
        ({**VIT, "resample": "bilinear"}, "'resample' is 'bilinear'"),
        ({**VIT, "image_mean": [0.5]}, "'image_mean' has 1 numbers; expected 3"),
        ({**VIT, "image_mean": ["a", 0, 0]}, "'image_mean' is 'a'; expected a number$"),
        ({**VIT, "image_std": [0.5, 0, 0.5]}, "'image_std' is 0; expected a number above 0"),
        ({**VIT, "rescale_factor": 0}, "'rescale_factor' is 0; expected a number above 0"),
        ({**VIT, "data_format": "channels_last"}, "'data_format' is 'channels_last'"),
    ],
)
def test_bad_files(tmp_path, config, message):
    with pytest.raises(BadInput, match=message) as caught:
        Preprocessing.of(write(tmp_path, config), None, 8)
    assert "preprocessor_config.json" in caught.value.message
    assert "\n" not in caught.value.message


def test_a_file_that_is_no_json(tmp_path):
    (tmp_path / "preprocessor_config.json").write_text("{broken")
    with pytest.raises(BadInput, match=r"preprocessor_config\.json: not valid JSON"):
        Preprocessing.of(tmp_path, None, 8)
