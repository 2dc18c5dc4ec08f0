"""One image: what it may be stored in, and how it is opened, always to RGB of 8 bits."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from instatune_deploy.errors import reason

ImageSource: TypeAlias = Path | bytes | npt.NDArray[np.uint8]
"""A file, the bytes of one, or pixels: grey ``(height, width)`` or RGB ``(height, width, 3)``, 0 .. 255."""
FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Pillow's names of what is read: none of them starts another program, as EPS does."""
_SIXTEEN_BITS = 65535


class Unreadable(ValueError):
    """No picture comes out of this image: its name, and why."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name}: {why}")
        self.name = name
        self.why = why


def open_image(source: ImageSource, name: str | None = None) -> Image.Image:
    """The picture, upright, as RGB of 8 bits; of a moving one the first frame.

    ``Unreadable`` for what is no image, not whole, or far too large, by its ``name`` (a file's own when not given).
    ``ValueError`` when pixels have another type or shape than those of `ImageSource`.
    """
    if isinstance(source, np.ndarray):
        _check_pixels(source)
        return Image.fromarray(source).convert("RGB")
    name = name or _name(source)
    with _unreadable(name):
        image = _opened(_content(source))
        image.load()
        return _rgb(_upright(image))


def check_image(source: ImageSource, name: str | None = None) -> str:
    """SHA-256 (hexadecimal) of what the image is stored in, once it is sure that `open_image` opens it; errors as there."""
    if isinstance(source, np.ndarray):
        _check_pixels(source)
        return hashlib.sha256(f"{source.shape}".encode() + source.tobytes()).hexdigest()
    name = name or _name(source)
    with _unreadable(name):
        content = _content(source)
        image = _opened(content)
        # a JPEG is still read to its end, but only an eighth of its width and height is computed
        image.draft(image.mode, (1, 1))
        image.load()
        _rgb(image)
        return hashlib.sha256(content).hexdigest()


def _check_pixels(pixels: npt.NDArray[np.uint8]) -> None:
    right = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
    if pixels.dtype != np.uint8 or not right or 0 in pixels.shape:
        raise ValueError(f"pixels are uint8 of (height, width) or (height, width, 3), not {pixels.dtype} of {pixels.shape}")


def _name(source: Path | bytes) -> str:
    return f"image of {len(source)} bytes" if isinstance(source, bytes) else str(source)


def _content(source: Path | bytes) -> bytes:
    return source if isinstance(source, bytes) else source.read_bytes()


def _opened(content: bytes) -> Image.Image:
    """With its header read, not more."""
    image = Image.open(io.BytesIO(content), formats=FORMATS)
    most = Image.MAX_IMAGE_PIXELS
    # Pillow itself refuses twice as many, and only warns of these
    if most is not None and image.width * image.height > most:
        raise ValueError(f"{image.width} x {image.height} pixels are more than {most}: taken for a decompression bomb")
    return image


@contextmanager
def _unreadable(name: str) -> Iterator[None]:
    """Whatever Pillow raises (it raises anything) as ``Unreadable``."""
    try:
        yield
    except MemoryError:
        raise
    except UnidentifiedImageError as error:
        raise Unreadable(name, f"is no image of a known kind ({', '.join(FORMATS).lower()})") from error
    except Exception as error:
        raise Unreadable(name, reason(error) or type(error).__name__) from error


def _upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF data says."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # the pixels are there; broken data beside them turn nothing
        return image


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("pixels that are fractions have no known white; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        image = _eight_bits(image)
    # Transparency is dropped, the colours stored under it stay: so do torchvision, timm, `datasets` and the processors of
    # older transformers, hence what models were trained on. Newer transformers lay it on white in some processors only (CLIP's,
    # BiT's), so whoever wants white saves images without transparency.
    image.info.pop("transparency", None)
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits in 8: 65535 becomes 255. Pillow's own conversion would make everything above 255 white."""
    values = np.asarray(image)
    if values.min() < 0 or values.max() > _SIXTEEN_BITS:
        raise ValueError("grey values beyond 16 bits have no known white; save it with 8 or 16 bits")
    return Image.fromarray(np.round(values / (_SIXTEEN_BITS / 255)).astype(np.uint8))
