from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from instatune_deploy.artifact import samples as module
from instatune_deploy.artifact.samples import Samples
from instatune_deploy.errors import VerificationFailed

IDS = np.array([[1, 2], [3, 4], [5, 6]])
LOGITS = np.array([[0.5, 1.0], [2.0, 3.0], [4.0, 5.0]], np.float32)


def test_what_is_written_is_read_with_types(tmp_path: Path) -> None:
    Samples({"input_ids": IDS}, LOGITS).write(tmp_path)
    read = Samples.read(tmp_path)
    assert list(read.inputs) == ["input_ids"]
    np.testing.assert_array_equal(read.inputs["input_ids"], IDS, strict=True)
    np.testing.assert_array_equal(read.logits, LOGITS, strict=True)


def test_the_file_can_be_read_with_plain_numpy(tmp_path: Path) -> None:
    Samples({"input_ids": IDS}, LOGITS).write(tmp_path)
    with np.load(tmp_path / "samples.npz", allow_pickle=False) as arrays:
        assert sorted(arrays.files) == ["input_ids", "logits"]


def test_a_batch_beyond_the_rows_repeats_the_last() -> None:
    samples = Samples({"input_ids": IDS}, LOGITS)
    assert samples.rows == 3
    assert samples.batch(0, 2)["input_ids"].tolist() == [[1, 2], [3, 4]]
    assert samples.batch(2, 2)["input_ids"].tolist() == [[5, 6], [5, 6]]


@pytest.mark.parametrize(
    ("inputs", "logits", "message"),
    [
        ({}, LOGITS, "there must be inputs"),
        ({"logits": IDS}, LOGITS, "none may be called 'logits'"),
        ({"input_ids": IDS[:2]}, LOGITS, "input_ids must have 3 rows"),
        ({"input_ids": IDS[0]}, LOGITS, "input_ids must have 3 rows"),
        ({"input_ids": IDS.astype(object)}, LOGITS, "input_ids must be numbers"),
        ({"input_ids": IDS}, LOGITS[0], "of shape"),
        ({"input_ids": IDS[:0]}, LOGITS[:0], "of shape"),
        ({"input_ids": IDS}, LOGITS * np.nan, "finite"),
    ],
)
def test_samples_that_make_no_sense(inputs: dict[str, Any], logits: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Samples(inputs, logits)


def _npz(**arrays: Any) -> Any:
    def write(path: Path) -> None:
        np.savez(path, **arrays)

    return write


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: path.write_bytes(b""), "not the samples"),
        (lambda path: path.write_bytes(b"PK\x03\x04 no archive"), "not the samples"),
        (lambda path: None, "not the samples"),
        (lambda path: np.save(path.open("wb"), IDS), "not the samples"),
        (_npz(input_ids=IDS), "it holds no 'logits'"),
        (_npz(input_ids=IDS, logits=np.array([{"a": 1}], dtype=object)), "not the samples.*allow_pickle"),
        (_npz(input_ids=IDS[:1], logits=LOGITS), "must have 3 rows"),
    ],
)
def test_a_file_that_is_no_samples(tmp_path: Path, write: Any, message: str) -> None:
    write(tmp_path / "samples.npz")
    with pytest.raises(VerificationFailed, match=message) as raised:
        Samples.read(tmp_path)
    assert "\n" not in raised.value.message


def header(shape: tuple[int, ...], descr: str = "<i8") -> bytes:
    """That of an array file, without the array."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue()


def zipped(path: Path, content: bytes, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path / "samples.npz", "w", compression) as archive:
        archive.writestr("input_ids.npy", content)
        archive.writestr("logits.npy", header(LOGITS.shape, "<f4") + LOGITS.tobytes())
    return path / "samples.npz"


def refused(folder: Path) -> str:
    with pytest.raises(VerificationFailed) as raised:
        Samples.read(folder)
    said = raised.value.message.removeprefix(f"{folder / 'samples.npz'}: not the samples of an artifact: ")
    assert said
    assert "\n" not in said
    assert said != raised.value.message
    return said


def test_deflated_samples_are_read(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "samples.npz", input_ids=np.asfortranarray(IDS), mask=IDS > 2, logits=LOGITS)
    read = Samples.read(tmp_path)
    np.testing.assert_array_equal(read.inputs["input_ids"], IDS, strict=True)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_more_than_samples_take_is_not_read(tmp_path: Path, compression: int, monkeypatch: pytest.MonkeyPatch) -> None:
    zipped(tmp_path, header((1000, 100)) + bytes(800_000), compression)
    monkeypatch.setattr(module, "MAX_BYTES", 800_000)
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("it was read"))
    assert refused(tmp_path).endswith("bytes, and no more than 800000 are read")


def test_images_of_vision_transformers_are_read(tmp_path: Path) -> None:
    images = np.zeros((32, 3, 384, 384), np.float32)
    Samples({"pixel_values": images}, np.zeros((32, 2), np.float32)).write(tmp_path)
    assert Samples.read(tmp_path).inputs["pixel_values"].shape == images.shape
    assert 4 * images.nbytes < module.MAX_BYTES


@pytest.mark.parametrize("shape", [(10**12, 10), (10**12,), (3, 2, 10**30), (2, 2), (4, 2), (-3, -2)])
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_array_that_is_not_as_large_as_it_says(tmp_path: Path, shape: tuple[int, ...], compression: int) -> None:
    """Before anything is made room for."""
    content = header((3, 2)).replace(b"(3, 2)", b"%s" % str(shape).encode())
    content = content[:8] + struct.pack("<H", len(content) - 10) + content[10:]
    zipped(tmp_path, content + IDS.tobytes() * (shape != (-3, -2)), compression)
    assert f"shape {shape} would take " in refused(tmp_path)


@pytest.mark.parametrize(
    ("content", "compression"),
    [
        (header((0, 10**30)), zipfile.ZIP_STORED),
        (header((10**12,), "|V0"), zipfile.ZIP_STORED),
        (header((3, 2), "|O"), zipfile.ZIP_STORED),
        (header((3, 2)) + IDS.tobytes(), zipfile.ZIP_BZIP2),
        (b"\x93NUMPY\1\0\x18\0{'shape': ((((((((((((((((", zipfile.ZIP_STORED),
        (b"\x93NUMPY\1\0\x10\0'a':\n   1\n  2 3 L", zipfile.ZIP_STORED),
        (b"\x93NUMPY\1\0\x10\x27" + b"(" * 10_000, zipfile.ZIP_STORED),
        (b"\x93NUMPY\2\0\xff\xff\xff\xff{}", zipfile.ZIP_STORED),
        (b"\x93NUMPY\3\0\xff\xff\xff\xff{}", zipfile.ZIP_STORED),
        (b"not an array", zipfile.ZIP_STORED),
    ],
    ids=["overflow", "nothing", "objects", "bzip2", "brackets", "indentation", "nested", "version 2", "version 3", "no array"],
)
def test_an_array_that_is_none(tmp_path: Path, content: bytes, compression: int) -> None:
    zipped(tmp_path, content, compression)
    refused(tmp_path)


def test_a_broken_deflation(tmp_path: Path) -> None:
    path = zipped(tmp_path, header((1000, 100)) + np.arange(100_000).tobytes(), zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    at = content.index(b"input_ids.npy") + len("input_ids.npy")
    for start in (at, at + 1000, at + 50_000):
        path.write_bytes(content[:start] + b"\xff" * 200 + content[start + 200 :])
        refused(tmp_path)


def test_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: Any, **__: Any) -> None:
        raise MemoryError

    Samples({"input_ids": IDS}, LOGITS).write(tmp_path)
    monkeypatch.setattr(np, "load", load)
    assert refused(tmp_path) == "MemoryError"


def test_any_changed_byte_is_one_clear_line(tmp_path: Path) -> None:
    """Or no change: nothing else comes of it."""
    Samples({"input_ids": IDS}, LOGITS).write(tmp_path)
    path = tmp_path / "samples.npz"
    content = path.read_bytes()
    for at in range(len(content)):
        for bits in (0x01, 0x10, 0xFF):
            path.write_bytes(content[:at] + bytes([content[at] ^ bits]) + content[at + 1 :])
            try:
                Samples.read(tmp_path)
            except VerificationFailed as error:
                assert "\n" not in error.message  # noqa: PT017
