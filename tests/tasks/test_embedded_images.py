from __future__ import annotations

import numpy as np
from PIL import Image

from instatune_deploy.tasks.embedded_images import EmbeddedImages
from instatune_deploy.tasks.image_processing import Preprocessing

from .pictures import noise

BICUBIC = 3
PROCESSING = Preprocessing((8, 8), BICUBIC, None, 1 / 255, (0.5,) * 3, (0.25,) * 3)


def test_an_image_of_the_graphs_size_is_not_touched() -> None:
    image = noise(12, 20)
    found = EmbeddedImages(PROCESSING, (12, 20)).apply(image)
    assert (found.dtype, found.shape) == (np.uint8, (12, 20, 3))
    np.testing.assert_array_equal(found, np.asarray(image))


def test_another_is_resized_as_the_processor_would() -> None:
    image = noise(31, 17)
    expected = np.asarray(image.resize((20, 12), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(EmbeddedImages(PROCESSING, (12, 20)).apply(image), expected)


def test_grey_becomes_three_channels() -> None:
    grey = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4))
    found = EmbeddedImages(PROCESSING, (3, 4)).apply(grey)
    np.testing.assert_array_equal(found, np.arange(12).reshape(3, 4, 1).repeat(3, axis=2))


def test_what_is_said_of_it() -> None:
    said = EmbeddedImages(PROCESSING, (12, 20)).described(["images"])
    assert said.pop("steps")
    assert said == {
        "kind": "image",
        "inputs": ["images"],
        "resize": [12, 20],
        "resample": "bicubic",
        "channels": "RGB",
        "layout": "NHWC",
        "embedded": PROCESSING.to_json(),
    }
