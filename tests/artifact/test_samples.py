from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

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
