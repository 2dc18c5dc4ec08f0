from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instatune_deploy import digests

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=10,
)


def test_canonical_json() -> None:
    assert (
        digests.canonical_json({"b": [1, 2.5, None], "a": {"y": True, "x": "é"}})
        == '{"a":{"x":"\\u00e9","y":true},"b":[1,2.5,null]}'
    )
    with pytest.raises(ValueError, match="not JSON compliant"):
        digests.canonical_json(math.nan)


@given(PLAIN)
def test_canonical_json_says_everything(value: object) -> None:
    assert json.loads(digests.canonical_json(value)) == value


def test_digest_is_sha256_of_the_canonical_text() -> None:
    assert digests.digest({"a": 1}) == hashlib.sha256(b'{"a":1}').hexdigest()
    assert digests.digest({"a": 1, "b": 2}) == digests.digest({"b": 2, "a": 1})
    assert digests.digest([1, 2]) != digests.digest([2, 1])


def test_file_and_folder_checksums(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"abc")
    assert digests.file_sha256(tmp_path / "one") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digests.folder_sha256(tmp_path / "one") == digests.file_sha256(tmp_path / "one")
    for folder in ("a", "b"):
        (tmp_path / folder / "deep").mkdir(parents=True)
        (tmp_path / folder / "deep" / "x").write_bytes(b"1")
        (tmp_path / folder / "y").write_bytes(b"2")
    assert digests.folder_sha256(tmp_path / "a") == digests.folder_sha256(tmp_path / "b")
    before = digests.folder_sha256(tmp_path / "a")
    (tmp_path / "a" / "y").write_bytes(b"3")
    changed = digests.folder_sha256(tmp_path / "a")
    (tmp_path / "b" / "y").rename(tmp_path / "b" / "z")
    renamed = digests.folder_sha256(tmp_path / "b")
    assert len({before, changed, renamed}) == 3
