from __future__ import annotations

import hashlib
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from instatune_deploy.tasks.images import Unreadable, check_image, open_image

from .pictures import encoded, noise, plain

SHADES = np.array([[0, 128, 255], [7, 77, 200]], dtype=np.uint8)


def pixels(source: Path | bytes | np.ndarray) -> np.ndarray:
    image = open_image(source)
    assert image.mode == "RGB"
    return np.asarray(image)


def grey(values: np.ndarray) -> np.ndarray:
    """The same value in three channels."""
    return np.repeat(values[..., None], 3, axis=2)


def test_a_file_its_bytes_and_its_pixels_are_the_same_picture(tmp_path):
    image = noise(5, 7)
    path = tmp_path / "a.png"
    image.save(path)
    for source in (path, path.read_bytes(), np.asarray(image)):
        assert np.array_equal(pixels(source), np.asarray(image))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF", "WEBP"])
def test_grey_of_every_kind(kind):
    settings = {"lossless": True} if kind == "WEBP" else {}
    assert np.array_equal(pixels(encoded(SHADES, kind, **settings)), grey(SHADES))
    assert np.array_equal(pixels(SHADES), grey(SHADES))


def test_one_bit_is_black_and_white():
    image = Image.fromarray(SHADES).point(lambda value: 255 * (value > 100)).convert("1")
    assert np.array_equal(pixels(encoded(image)), grey(np.array([[0, 255, 255], [0, 0, 255]], dtype=np.uint8)))


def test_sixteen_bits_are_scaled_not_cut():
    values = np.array([[0, 257, 300], [32896, 65535, 65400]], dtype=np.uint16)
    # by 257: 300 is 1.17, 65400 is 254.47
    expected = grey(np.array([[0, 1, 1], [128, 255, 254]], dtype=np.uint8))
    for content in (encoded(values), encoded(values, "TIFF"), encoded(values.astype(np.int32), "TIFF")):
        assert np.array_equal(pixels(content), expected)


@pytest.mark.parametrize("values", [np.full((2, 2), 70000, np.int32), np.full((2, 2), 0.5, np.float32)])
def test_pixels_without_a_known_white(values):
    for read in (open_image, check_image):
        with pytest.raises(Unreadable, match="no known white"):
            read(encoded(values, "TIFF"))


def test_palettes():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([0, 1])
    expected = [[[10, 20, 30], [40, 50, 60]]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pixels(encoded(image)).tolist() == expected
        assert pixels(encoded(image, transparency=b"\x00\x80")).tolist() == expected


def test_of_what_is_transparent_the_colour_stays():
    assert pixels(encoded(Image.new("RGBA", (1, 1), (9, 8, 7, 0)))).tolist() == [[[9, 8, 7]]]
    assert pixels(encoded(Image.new("LA", (1, 1), (9, 100)))).tolist() == [[[9, 9, 9]]]


def test_printing_colours():
    content = encoded(Image.new("CMYK", (16, 16), (255, 0, 0, 0)), "JPEG")
    assert np.abs(pixels(content).astype(int) - (0, 255, 255)).max() <= 2
    check_image(content)


def test_a_photograph_is_turned_upright_even_when_other_exif_data_are_broken():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    image = Image.fromarray(np.array([[[1, 1, 1], [2, 2, 2]]], dtype=np.uint8))
    assert pixels(encoded(image, exif=exif))[:, 0, 0].tolist() == [1, 2]
    assert pixels(encoded(image, exif=b"Exif\0\0nothing of the kind")).shape == (1, 2, 3)


def test_of_a_moving_picture_the_first_frame_is_taken():
    frames = [Image.new("L", (4, 4), value) for value in (50, 150)]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.unique(pixels(content)).tolist() == [50]


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"not an image", "is no image of a known kind"),
        (b"", "is no image of a known kind"),
        (half(encoded(noise(64, 64), "JPEG")), "truncated"),
        (half(encoded(noise(64, 64), "JPEG", progressive=True)), "truncated"),
        (encoded(noise(64, 64), "JPEG")[:-600], "truncated"),
        (half(encoded(noise(64, 64))), "truncated|broken"),
        (half(encoded(noise(64, 64), "BMP")), "truncated"),
        (half(encoded(noise(64, 64), "TIFF")), None),
        (half(encoded(noise(64, 64), "WEBP")), None),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "is no image of a known kind"),
    ],
)
@pytest.mark.parametrize("read", [open_image, check_image])
def test_what_is_no_whole_image(read, content, why):
    with pytest.raises(Unreadable, match=why) as caught:
        read(content, "row 7")
    assert str(caught.value).startswith("row 7: ")
    assert caught.value.name == "row 7"
    assert "\n" not in str(caught.value)
    assert caught.value.why


def test_files_are_named(tmp_path):
    with pytest.raises(Unreadable, match=r"none\.png: no such file"):
        open_image(tmp_path / "none.png")
    with pytest.raises(Unreadable, match=r"is a directory"):
        check_image(tmp_path)
    with pytest.raises(Unreadable, match=r"^image of 3 bytes: "):
        open_image(b"abc")


def test_far_too_many_pixels(monkeypatch):
    content = encoded(noise(10, 10))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 99)
    for read in (open_image, check_image):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(Unreadable, match=r"10 x 10 pixels are more than 99|decompression bomb"):
                read(content)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    with pytest.raises(Unreadable, match="decompression bomb"):
        open_image(content)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    open_image(content)


def test_pixels_of_another_type_or_shape_are_the_callers_mistake():
    for wrong in (np.zeros((2, 2)), np.zeros((2, 2, 4), np.uint8), np.zeros(4, np.uint8), np.zeros((0, 2), np.uint8)):
        for read in (open_image, check_image):
            with pytest.raises(ValueError, match="pixels are uint8 of") as caught:
                read(wrong)
            assert not isinstance(caught.value, Unreadable)


def test_the_checksum_is_of_the_bytes_or_of_shape_and_pixels(tmp_path):
    content = plain(3, "JPEG")
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    assert check_image(path) == check_image(content) == hashlib.sha256(content).hexdigest()
    flat, tall = np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8)
    assert check_image(flat) == check_image(flat.copy()) != check_image(tall)
