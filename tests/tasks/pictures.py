"""Images in memory, as files hold them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image


def encoded(image: Image.Image | Any, kind: str = "PNG", **settings: Any) -> bytes:
    """The bytes of a file with an image, or with an array as one."""
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **settings)
    return buffer.getvalue()


def noise(height: int, width: int, seed: int = 0) -> Image.Image:
    """RGB."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def plain(value: int, kind: str = "PNG") -> bytes:
    """A file with an image of 8 x 6 grey pixels of one value."""
    return encoded(Image.new("L", (8, 6), value), kind)
