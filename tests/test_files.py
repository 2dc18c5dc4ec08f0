from __future__ import annotations

import errno
import math
import os
import subprocess
from pathlib import Path

import pytest

from instatune_deploy import files
from instatune_deploy.errors import BadInput


def full_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_write_text_replaces_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "file.txt"
    files.write_text(path, "old ü")
    assert path.read_text(encoding="utf-8") == "old ü"
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", full_disk)
        with pytest.raises(OSError, match="No space"):
            files.write_text(path, "new")
    assert path.read_text(encoding="utf-8") == "old ü"
    assert names(path.parent) == ["file.txt"]
    files.write_text(path, "new")
    assert path.read_text(encoding="utf-8") == "new"


def test_json_both_ways(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    files.write_json(path, {"b": 1.5, "a": [None]})
    assert files.read_json(path) == {"b": 1.5, "a": [None]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(path, {"a": math.inf})
    assert files.read_json(path) == {"b": 1.5, "a": [None]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: no such file or directory"),
        (b"{\n 1", "not valid JSON (line 2:"),
        (b"\xff", "cannot be read: "),
        (b"1" * 5000, "not valid JSON (Exceeds the limit (4300 digits)"),
    ],
    ids=["missing", "torn", "no UTF-8", "digits"],
)
def test_read_json_names_what_is_wrong(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "value.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadInput) as caught:
        files.read_json(path)
    assert caught.value.message.startswith(f"{path}: ")
    assert message in caught.value.message


def test_whole_folder(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "target"
    with files.whole_folder(target) as scratch:
        (scratch / "x").write_text("1")
        assert not target.exists()
    assert names(target) == ["x"]
    assert target.stat().st_mode & 0o777 == 0o755
    with files.whole_folder(target) as scratch:
        (scratch / "y").write_text("2")
        assert names(target) == ["x"]
    assert names(target) == ["y"]
    assert names(target.parent) == ["target"]


def half_written(target: Path, error: BaseException) -> None:
    with files.whole_folder(target) as scratch:
        (scratch / "x").write_text("half")
        raise error


@pytest.mark.parametrize("error", [ValueError("wrong"), KeyboardInterrupt()])
def test_whole_folder_keeps_the_old_one(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "x").write_text("old")
    with pytest.raises(type(error)):
        half_written(target, error)
    assert (target / "x").read_text() == "old"
    assert names(tmp_path) == ["target"]


def test_whole_folder_on_a_full_disk(tmp_path: Path) -> None:
    target = tmp_path / "target"
    with pytest.raises(BadInput) as caught:
        half_written(target, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert caught.value.message == f"cannot write {target}: the disk is full; free some space and run again"
    assert names(tmp_path) == []


def test_whole_folder_where_a_file_stands(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(BadInput, match=r"cannot write .*: (file exists|not a directory)"),
        files.whole_folder(tmp_path / "file" / "target"),
    ):
        raise AssertionError("the block must not be entered")


def test_a_replacement_that_fails_puts_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new, target = tmp_path / "new", tmp_path / "target"
    new.mkdir()
    target.mkdir()
    (target / "x").write_text("old")
    replace = os.replace

    def fails_for_new(source: Path, to: Path) -> None:
        if source == new:
            full_disk()
        replace(source, to)

    monkeypatch.setattr(files.os, "replace", fails_for_new)
    with pytest.raises(OSError, match="No space"):
        files.replace_folder(new, target)
    assert (target / "x").read_text() == "old"
    assert names(tmp_path) == ["new", "target"]


def test_check_writable(tmp_path: Path) -> None:
    files.check_writable(tmp_path / "new" / "folder")
    assert names(tmp_path / "new" / "folder") == []
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match=r"cannot write to .*file exists"):
        files.check_writable(tmp_path / "file")


def test_what_a_killed_process_left_is_cleared_away(tmp_path: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    abandoned = tmp_path / f"{files._scratch(tmp_path / 'artifact')}{dead.pid}.x1"
    living = tmp_path / f"{files._scratch(tmp_path / 'artifact')}{os.getpid()}.x2"
    other = tmp_path / f"{files._scratch(tmp_path / 'another')}{dead.pid}.x3"
    for folder in (abandoned, living, other):
        (folder / "inner").mkdir(parents=True)
    with files.whole_folder(tmp_path / "artifact") as scratch:
        (scratch / "file").touch()
    assert not abandoned.exists()
    assert living.exists()
    assert other.exists()
    assert (tmp_path / "artifact" / "file").exists()
