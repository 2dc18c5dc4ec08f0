from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from instatune_deploy.tasks.augmentation import OPERATIONS, augment

from .pictures import noise


def test_none_is_the_image_itself():
    image = noise(6, 8)
    assert augment(image, "none", np.random.default_rng(0)) is image


def test_flip_mirrors_about_every_other_image_and_does_nothing_else():
    image = noise(6, 8)
    rng = np.random.default_rng(0)
    found = [np.asarray(augment(image, "flip", rng)) for _ in range(400)]
    mirrored = np.asarray(image)[:, ::-1]
    flipped = [np.array_equal(pixels, mirrored) for pixels in found]
    assert all(flip or np.array_equal(pixels, np.asarray(image)) for flip, pixels in zip(flipped, found, strict=True))
    assert 160 < sum(flipped) < 240


def test_light_takes_a_part_of_at_least_seven_tenths():
    # a picture in which every pixel says where it stands
    height, width = 80, 120
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    image = Image.fromarray(np.stack([rows, columns, rows], axis=-1))
    rng = np.random.default_rng(1)
    corners = set()
    for _ in range(300):
        found = np.asarray(augment(image, "light", rng))
        part = found if found[0, 0, 1] < found[0, -1, 1] else found[:, ::-1]
        top, left = (int(value) for value in part[0, 0, :2])
        assert np.array_equal(part, np.asarray(image)[top : top + part.shape[0], left : left + part.shape[1]])
        assert 0.68 < part.shape[0] * part.shape[1] / (height * width) <= 1
        corners.add((top, left))
    assert len(corners) > 100


@pytest.mark.parametrize("level", ["flip", "light", "strong"])
def test_the_same_draw_gives_the_same_image_and_leaves_the_original_alone(level):
    image = noise(20, 30)
    before = image.tobytes()
    first, again = ([augment(image, level, rng).tobytes() for _ in range(20)] for rng in map(np.random.default_rng, (5, 5)))
    assert first == again
    assert len(set(first)) > 1
    assert image.tobytes() == before


def test_the_smallest_image_survives():
    rng = np.random.default_rng(0)
    for image in (noise(1, 1), noise(1, 50), noise(50, 1)):
        for _ in range(50):
            found = augment(image, "strong", rng)
            assert found.mode == "RGB"
            assert min(found.size) >= 1


@pytest.mark.parametrize("number", range(len(OPERATIONS)))
def test_every_operation_changes_the_picture_and_keeps_its_size(number):
    image = Image.fromarray(np.asarray(noise(16, 24)) // 4 * 3 + 8)
    for sign in (-1.0, 1.0):
        found = OPERATIONS[number](image, sign)
        assert (found.mode, found.size) == ("RGB", image.size)
        assert found.tobytes() != image.tobytes()


def test_turning_and_shearing_keep_the_middle():
    image = Image.new("RGB", (21, 21))
    image.putpixel((10, 10), (255, 255, 255))
    for operation in OPERATIONS[-3:]:
        pixels = np.asarray(operation(image, 1.0))[..., 0]
        assert pixels[8:13, 8:13].max() > 150
