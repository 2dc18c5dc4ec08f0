from __future__ import annotations

import io
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest
from tasks.conftest import tar_of

from instatune_deploy import archives
from instatune_deploy.archives import extract
from instatune_deploy.errors import BadInput


def zip_of(files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def take(content: bytes, inner: str, target: Path) -> None:
    extract(io.BytesIO(content), inner, target, "here")


def tar_with_link(kind: bytes, linkname: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("model", "model/a"):
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE if name == "model" else kind
            info.linkname = linkname
            archive.addfile(info)
    return buffer.getvalue()


@pytest.mark.parametrize("make", [zip_of, tar_of])
def test_one_file_and_nothing_else_is_written(make, tmp_path):
    take(make({"a/b.txt": b"this", "a/c.txt": b"not this"}), "a/b.txt", tmp_path / "b.txt")
    assert (tmp_path / "b.txt").read_bytes() == b"this"
    assert [path.name for path in tmp_path.rglob("*")] == ["b.txt"]


@pytest.mark.parametrize("make", [zip_of, tar_of])
def test_a_folder_keeps_its_inside_and_not_its_neighbours(make, tmp_path):
    take(make({"x/m/one": b"1", "x/m/d/two": b"2", "x/m2/three": b"3", "y": b"4"}), "x/m", tmp_path / "m")
    found = {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {"m/one": b"1", "m/d/two": b"2"}


def test_through_two_nested_archives(tmp_path):
    content = zip_of({"d/outer.tar.gz": tar_of({"inner.zip": zip_of({"z/rows.txt": b"rows"}, zipfile.ZIP_DEFLATED)})})
    take(content, "d/outer.tar.gz/inner.zip/z/rows.txt", tmp_path / "rows.txt")
    assert (tmp_path / "rows.txt").read_bytes() == b"rows"


def test_the_single_top_folder_is_implied_for_the_outer_archive_only(tmp_path):
    content = tar_of({"name-1.0/data/in.zip": zip_of({"top/rows": b"r", "top/more": b"m"}), "name-1.0/PKG-INFO": b""})
    take(content, "data/in.zip/top/rows", tmp_path / "implied")
    take(content, "name-1.0/data/in.zip/top/rows", tmp_path / "spelled")
    assert (tmp_path / "implied").read_bytes() == (tmp_path / "spelled").read_bytes() == b"r"
    with pytest.raises(BadInput, match="no 'rows'"):
        take(content, "data/in.zip/rows", tmp_path / "not")


def test_a_missing_path_suggests_the_nearest(tmp_path):
    with pytest.raises(BadInput, match=r"^here: the archive has no 'data/modle'; did you mean 'data/model'\?$"):
        take(zip_of({"data/model/w": b"", "z": b""}), "data/modle", tmp_path / "x")


@pytest.mark.parametrize("make", [zip_of, tar_of])
@pytest.mark.parametrize("name", ["model/../../evil", "../evil", "/tmp/evil", "model\\..\\..\\evil", "C:evil", "\\evil"])
def test_names_that_leave_the_archive_are_refused(make, name, tmp_path):
    target = tmp_path / "deep" / "model"
    target.parent.mkdir()
    with pytest.raises(BadInput, match="not safe"):
        take(make({"model/good": b"", name: b"evil"}), "model", target)
    assert list(tmp_path.rglob("*")) == [target.parent]


@pytest.mark.parametrize(
    ("kind", "to"), [(tarfile.SYMTYPE, "/etc"), (tarfile.SYMTYPE, "../.."), (tarfile.LNKTYPE, "/etc/passwd")]
)
def test_links_in_a_tar_are_refused(kind, to, tmp_path):
    with pytest.raises(BadInput, match="'model/a' is a link"):
        take(tar_with_link(kind, to), "model", tmp_path / "model")


@pytest.mark.parametrize("kind", [tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_special_files_are_refused(kind, tmp_path):
    with pytest.raises(BadInput, match="special file"):
        take(tar_with_link(kind, ""), "model", tmp_path / "model")


def test_a_symbolic_link_in_a_zip_is_refused(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo("model/link")
        info.create_system, info.external_attr = 3, 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(BadInput, match="'model/link' is a link"):
        take(buffer.getvalue(), "model", tmp_path / "model")


@pytest.mark.parametrize("make", [lambda files: zip_of(files, zipfile.ZIP_DEFLATED), tar_of])
def test_an_explosion_is_refused_before_it_is_written(make, tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_UNPACKED_BYTES", 1000)
    take(make({"a": b"0" * 500, "b": b"0" * 500}), "a", tmp_path / "fits")
    with pytest.raises(BadInput, match="more than 1000 bytes"):
        take(make({"a": b"0" * 500, "b": b"0" * 501}), "a", tmp_path / "bomb")
    assert not (tmp_path / "bomb").exists()


def test_a_zip_that_lies_about_its_size_cannot_write_more_than_it_said(tmp_path):
    content = bytearray(zip_of({"a": b"0" * 100_000}, zipfile.ZIP_DEFLATED))
    central = content.rindex(b"PK\1\2")
    struct.pack_into("<I", content, central + 24, 10)  # the uncompressed size in the central directory
    with pytest.raises(BadInput, match="cannot be read"):
        take(bytes(content), "a", tmp_path / "a")
    assert (tmp_path / "a").stat().st_size <= 10


@pytest.mark.parametrize(
    "content",
    [b"no archive at all", b"", b"PK\3\4 torn", tar_of({"a": b"x" * 9999})[:60]],
    # a gzip header holds the time: as part of a test's name it would differ between two test processes
    ids=["text", "empty", "torn zip", "torn tar"],
)
def test_broken_archives_are_one_clear_line(content, tmp_path):
    with pytest.raises(BadInput, match=r"^here: cannot be read as a zip or tar archive: [^\n]+$"):
        take(content, "a", tmp_path / "a")


def test_a_path_through_a_plain_file(tmp_path):
    with pytest.raises(BadInput, match=r"inside a/plain\.txt\): cannot be read"):
        take(zip_of({"a/plain.txt": b"hello"}), "a/plain.txt/b", tmp_path / "b")


@pytest.mark.parametrize("make", [zip_of, tar_of])
def test_everything_of_an_archive(make, tmp_path):
    (tmp_path / "a").write_bytes(make({"x/one": b"1", "x/d/two": b"2", "three": b"3"}))
    archives.unpack(tmp_path / "a", tmp_path / "out")
    found = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert found == {"x/one", "x/d/two", "three"}


@pytest.mark.parametrize("content", [zip_of({"../out2/x": b"1"}), tar_with_link(tarfile.SYMTYPE, "/etc"), b"no archive"])
def test_nothing_is_written_of_an_archive_that_is_not_safe(content, tmp_path):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(BadInput):
        archives.unpack(tmp_path / "a", tmp_path / "out")
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "a"]


def test_an_archive_that_is_not_there(tmp_path):
    with pytest.raises(BadInput, match="none: cannot be read: no such file"):
        archives.unpack(tmp_path / "none", tmp_path / "out")
