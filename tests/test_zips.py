from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from instatune_deploy import zips


def fill(folder: Path) -> Path:
    (folder / "d").mkdir(parents=True)
    (folder / "b.txt").write_text("two")
    (folder / "d" / "a.txt").write_text("one" * 1000)
    return folder


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    """Whatever their dates, their permissions and the order in which they were made."""
    first, second = fill(tmp_path / "1"), fill(tmp_path / "2")
    os.utime(second / "b.txt", (0, 0))
    (second / "b.txt").chmod(0o600)
    zips.write_zip(first, tmp_path / "1.zip")
    zips.write_zip(second, tmp_path / "2.zip")
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "1.zip") as archive:
        assert archive.namelist() == ["b.txt", "d/a.txt"]
        assert archive.read("d/a.txt") == b"one" * 1000
    assert (tmp_path / "1.zip").stat().st_size < 1000


def test_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fill(tmp_path / "1")

    def broken(*_: object) -> None:
        raise OSError("no more")

    monkeypatch.setattr(zips.shutil, "copyfileobj", broken)
    with pytest.raises(OSError, match="no more"):
        zips.write_zip(folder, tmp_path / "out" / "1.zip")
    assert list((tmp_path / "out").iterdir()) == []
