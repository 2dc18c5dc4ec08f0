from __future__ import annotations

import bz2
import gzip
import io
import lzma
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
@pytest.mark.parametrize(
    "name",
    [
        "model/../../evil",
        "../evil",
        "/tmp/evil",
        "model\\..\\..\\evil",
        "C:evil",
        "\\evil",
        ".//C:evil",
        "model//C:/evil",
        "..",
        "//x",
    ],
)
def test_names_that_leave_the_archive_are_refused(make, name, tmp_path):
    target = tmp_path / "deep" / "model"
    target.parent.mkdir()
    with pytest.raises(BadInput, match="not safe"):
        take(make({"model/good": b"", name: b"evil"}), "model", target)
    assert list(tmp_path.rglob("*")) == [target.parent]


@pytest.mark.parametrize("make", [zip_of, tar_of])
@pytest.mark.parametrize("name", ["model/{}/evil", "model//{}/evil", "./model/.///{}/evil", "model\\\\{}\\evil"])
def test_nothing_is_left_of_a_name_that_leads_elsewhere(make, name, tmp_path):
    """`model//x` without its `model/` is no `/x`: neither where one folder is taken nor where everything is."""
    outside = tmp_path / "outside"
    content = make({"model/good": b"", name.format(outside): b"evil"})
    take(content, "model", tmp_path / "model")
    assert sorted(tmp_path.iterdir()) == [tmp_path / "model"]
    assert (tmp_path / "model" / outside.relative_to("/") / "evil").read_bytes() == b"evil"


@pytest.mark.parametrize("start", [".//", "././/", "."])
def test_nothing_is_written_outside_the_folder_of_everything(start, tmp_path):
    outside = tmp_path / "outside"
    (tmp_path / "a").write_bytes(zip_of({f"{start}{outside}/evil": b"evil", ".": b"", "./": b""}))
    archives.unpack(tmp_path / "a", tmp_path / "out")
    assert not outside.exists()
    assert (tmp_path / "out" / outside.relative_to("/") / "evil").read_bytes() == b"evil"


def test_a_path_that_is_outside_all_the_same_is_refused(tmp_path):
    member = archives._Member("model//etc/evil", "file", io.BytesIO)
    with pytest.raises(BadInput, match="not safe: it has a member named 'model//etc/evil'"):
        archives._write([member], "model", tmp_path / "model", "here")


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


def header_of(kind: bytes, size: int) -> bytes:
    info = tarfile.TarInfo("header")
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


class Zeros(io.RawIOBase):
    """A header, and zeros without end; who asks for many of them at once fails."""

    def __init__(self, head: bytes) -> None:
        self.head, self.at = head, 0

    def read(self, size: int = -1, /) -> bytes:
        assert 0 <= size <= 1 << 20, f"{size} bytes were asked for at once"
        found = self.head[self.at : self.at + size].ljust(size, b"\0")
        self.at += size
        return found

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self.at = offset
        return self.at

    def tell(self) -> int:
        return self.at


@pytest.mark.parametrize("size", [1 << 40, 1 << 17, -512])
@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_a_header_of_any_length_is_not_read(kind, size, tmp_path):
    with pytest.raises(BadInput, match=r"^here: the archive is not safe: it has headers of extraordinary length$"):
        extract(Zeros(header_of(kind, size)), "a", tmp_path / "a", "here")


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress, bytes])
def test_nor_one_that_is_compressed(compress, tmp_path):
    content = compress(header_of(tarfile.GNUTYPE_LONGNAME, 1 << 24) + bytes(1 << 24) + header_of(tarfile.REGTYPE, 0))
    with pytest.raises(BadInput, match="headers of extraordinary length"):
        take(content, "a", tmp_path / "a")


def test_nor_many_that_are_short(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_HEADERS_BYTES", 100 * 512)
    take(tar_of({str(name): b"" for name in range(50)}), "0", tmp_path / "fits")
    with pytest.raises(BadInput, match="headers of extraordinary length"):
        take(tar_of({str(name): b"" for name in range(200)}), "0", tmp_path / "a")
    chain = header_of(tarfile.XHDTYPE, 0) * 10_000
    with pytest.raises(BadInput, match="headers of extraordinary length"):
        take(chain, "0", tmp_path / "a")


def test_a_sparse_file_whose_map_has_no_end(tmp_path):
    pax = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "1", "GNU.sparse.name": "a"}
    info = tarfile.TarInfo("a")
    info.pax_headers, info.size = pax, 1 << 20
    content = info.tobuf(tarfile.PAX_FORMAT) + b"99999999\n" + b"0\n" * (1 << 19)
    with pytest.raises(BadInput, match="headers of extraordinary length"):
        take(content, "a", tmp_path / "a")


def test_a_member_of_less_than_nothing(tmp_path):
    """It would be its own successor, for ever."""
    with pytest.raises(BadInput, match="unpacks to more than"):
        extract(Zeros(header_of(tarfile.REGTYPE, -512)), "a", tmp_path / "a", "here")


def test_a_member_that_hides_how_far_the_next_one_is(tmp_path):
    """Its size is 1, and what stands for it in the archive a terabyte."""
    info = tarfile.TarInfo("a")
    info.type, info.size = tarfile.GNUTYPE_SPARSE, 1 << 40
    head = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    head[483:495] = b"00000000001\0"  # the real size
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    with pytest.raises(BadInput, match="unpacks to more than"):
        extract(Zeros(bytes(head)), "a", tmp_path / "a", "here")


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_long_names_in_all_compressions(mode, tmp_path):
    buffer = io.BytesIO()
    names = [f"{'d' * 90}/{'e' * 90}/{'f' * 90}/{number}" for number in range(3)]
    with tarfile.open(fileobj=buffer, mode=mode, pax_headers={"comment": "x" * 1000}) as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 200_000
            info.pax_headers = {"SCHILY.xattr.user.x": "y" * 10_000}
            archive.addfile(info, io.BytesIO(name[-1:].encode() * info.size))
    take(buffer.getvalue(), names[2], tmp_path / "two")
    take(buffer.getvalue(), names[0], tmp_path / "none")
    assert (tmp_path / "two").read_bytes() == b"2" * 200_000
    assert (tmp_path / "none").read_bytes() == b"0" * 200_000


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_a_broken_compression_is_one_clear_line(compress, tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for number in range(20):
            info = tarfile.TarInfo(str(number))
            info.size = 99_999
            archive.addfile(info, io.BytesIO(bytes(range(256)) * 400))
    content = bytearray(compress(buffer.getvalue()))
    content[40:] = b"\xa5" * (len(content) - 40)
    with pytest.raises(BadInput, match=r"^here: cannot be read as a zip or tar archive: [^\n]+$"):
        take(bytes(content), "0", tmp_path / "0")


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


def test_everything_of_a_zip_file(tmp_path):
    (tmp_path / "a").write_bytes(zip_of({"x/one": b"1", "x/d/two": b"2", "three": b"3"}))
    archives.unpack(tmp_path / "a", tmp_path / "out")
    found = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert found == {"x/one", "x/d/two", "three"}


@pytest.mark.parametrize(
    "content",
    [tar_of({"a": b"1"}), tar_with_link(tarfile.SYMTYPE, "/etc"), b"", b"no archive"],
    ids=["tar.gz", "tar", "empty", "text"],
)
def test_only_of_a_zip_file(content, tmp_path):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(BadInput, match=r"/a: neither a folder nor a zip file$"):
        archives.unpack(tmp_path / "a", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [zip_of({"../out2/x": b"1"}), zip_of({"a": b"1"})[:-9]], ids=["outside", "torn"])
def test_nothing_is_written_of_an_archive_that_is_not_safe(content, tmp_path):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(BadInput):
        archives.unpack(tmp_path / "a", tmp_path / "out")
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "a"]


def test_an_archive_that_is_not_there(tmp_path):
    with pytest.raises(BadInput, match="none: cannot be read: no such file"):
        archives.unpack(tmp_path / "none", tmp_path / "out")
