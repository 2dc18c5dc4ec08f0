"""Training images changed at random, with Pillow alone, before they are preprocessed: `Preprocessing` brings them to size."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

Level = Literal["none", "flip", "light", "strong"]
SMALLEST_AREA = 0.7
"""Share of an image that a crop has at least."""
OPERATIONS_OF_AN_IMAGE = 2
GREY = (128, 128, 128)
"""What comes in from outside of an image that is turned."""


def augment(image: Image.Image, level: Level, rng: np.random.Generator) -> Image.Image:
    """An RGB image, changed as ``rng`` draws; the same state of it gives the same image.

    flip: mirrored, every other one. light: and a part of it, 70 to 100 % of its area, up to 1.4 times as wide or as high in
    proportion; it comes back in the size of the part. strong: and two of `OPERATIONS`. none: the image itself.
    """
    if level == "none":
        return image
    if rng.random() < 0.5:
        image = ImageOps.mirror(image)
    if level == "flip":
        return image
    image = _part(image, rng)
    if level == "light":
        return image
    for index in rng.choice(len(OPERATIONS), OPERATIONS_OF_AN_IMAGE, replace=False):
        image = OPERATIONS[index](image, rng.choice((-1.0, 1.0)))
    return image


def _part(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    area = rng.uniform(SMALLEST_AREA, 1.0)
    # within these, neither edge of the part is longer than the image's
    proportion = math.exp(rng.uniform(math.log(area), -math.log(area)))
    width = max(1, round(image.width * math.sqrt(area * proportion)))
    height = max(1, round(image.height * math.sqrt(area / proportion)))
    left, top = int(rng.integers(image.width - width + 1)), int(rng.integers(image.height - height + 1))
    return image.crop((left, top, left + width, top + height))


def _enhanced(kind: Callable[[Image.Image], Any]) -> Callable[[Image.Image, float], Image.Image]:
    return lambda image, sign: kind(image).enhance(1 + 0.4 * sign)


def _sheared(image: Image.Image, slope: float, *, across: bool) -> Image.Image:
    """The middle stays."""
    x, y = (slope, 0.0) if across else (0.0, slope)
    matrix = (1.0, x, -x * image.height / 2, y, 1.0, -y * image.width / 2)
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=GREY)


OPERATIONS: tuple[Callable[[Image.Image, float], Image.Image], ...] = (
    lambda image, sign: ImageOps.autocontrast(image),
    lambda image, sign: ImageOps.equalize(image),
    lambda image, sign: ImageOps.posterize(image, 4),
    lambda image, sign: ImageOps.solarize(image, 192),
    _enhanced(ImageEnhance.Color),
    _enhanced(ImageEnhance.Contrast),
    _enhanced(ImageEnhance.Brightness),
    _enhanced(ImageEnhance.Sharpness),
    lambda image, sign: image.rotate(15 * sign, Image.Resampling.BILINEAR, fillcolor=GREY),
    lambda image, sign: _sheared(image, 0.2 * sign, across=True),
    lambda image, sign: _sheared(image, 0.2 * sign, across=False),
)
"""Of RandAugment (arXiv 1909.13719), with one strength each and a sign, -1 or 1, where there are two directions."""
