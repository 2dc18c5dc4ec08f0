"""Take a file or folder out of a zip or tar archive, also through archives inside it, or everything out of a zip file.

Archives come from elsewhere, so they are not trusted: names that leave the archive, links and special files are refused, and so
is an archive that unpacks to more than ``MAX_UNPACKED_BYTES`` or has headers beyond all measure. Nothing is imported or run;
permission bits are not taken over.
"""

from __future__ import annotations

import bz2
import difflib
import gzip
import io
import lzma
import re
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from instatune_deploy.errors import BadInput, clear_os_errors, reason

MAX_UNPACKED_BYTES = 4 << 30
MAX_HEADER_BYTES = 1 << 16
"""Of all headers of one tar member, which tarfile reads whole: names, owners, attributes take some hundred bytes."""
MAX_HEADERS_BYTES = 128 << 20
"""Of all members of a tar archive: some hundred thousand files."""

_ZIP = (b"PK\3\4", b"PK\5\6")
_COMPRESSED: dict[bytes, Callable[[IO[bytes]], IO[bytes]]] = {
    b"\x1f\x8b": lambda stream: gzip.GzipFile(fileobj=stream),  # type: ignore[dict-item,return-value]
    b"BZh": bz2.BZ2File,  # type: ignore[dict-item]
    b"\xfd7zXZ": lzma.LZMAFile,  # type: ignore[dict-item]
    b"\x5d\0\0": lzma.LZMAFile,  # type: ignore[dict-item]
}

# tarfile and zipfile let the errors of the compression through; RuntimeError is an encrypted zip member, ValueError a name in
# no encoding
_BROKEN = (
    ValueError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,
    NotImplementedError,
)


@dataclass(frozen=True)
class _Member:
    name: str
    kind: Literal["file", "folder", "other"]
    open: Callable[[], IO[bytes]]


def extract(stream: IO[bytes], inner: str, target: Path, where: str, *, implied_top: bool = True) -> None:
    """Write what ``inner`` (``folder/inside`` or ``inside.tar.gz/file``) means in the archive ``stream`` to ``target``.

    ``target`` must not exist; it becomes a file or a folder. With ``implied_top`` the single top folder that source archives have
    (``NAME-VERSION/``) may be left out of ``inner``. ``BadInput``, beginning with ``where``, for everything that is wrong.
    """
    with _clear_archive_errors(where):
        members = _members(stream, where)
        for prefix in _prefixes(members) if implied_top else [""]:
            wanted = prefix + inner
            chosen = [member for member in members if member.name == wanted or member.name.startswith(wanted + "/")]
            if chosen:
                _write(chosen, wanted, target, where)
                return
            outer = next((m for m in members if m.kind == "file" and wanted.startswith(m.name + "/")), None)
            if outer is not None:
                with outer.open() as source, tempfile.TemporaryFile(dir=target.parent) as nested:
                    shutil.copyfileobj(source, nested)
                    rest = wanted[len(outer.name) + 1 :]
                    extract(nested, rest, target, f"{where} (inside {outer.name})", implied_top=False)
                return
    raise BadInput(f"{where}: the archive has no '{inner}'; {_nearest(inner, [member.name for member in members])}")


def unpack(path: Path, target: Path) -> None:
    """Everything in the zip file ``path``, into the folder ``target``, which must not exist. ``BadInput`` as in `extract`."""
    with clear_os_errors(f"{path}: cannot be read"), path.open("rb") as stream, _clear_archive_errors(str(path), "a zip file"):
        if stream.read(4) not in _ZIP:
            raise BadInput(f"{path}: neither a folder nor a zip file")
        members = _members(stream, str(path))
        target.mkdir()
        _write([member for member in members if member.name], "", target, str(path))


def _nearest(inner: str, names: list[str]) -> str:
    folders = {"/".join(parts[:depth]) for parts in (name.split("/") for name in names) for depth in range(1, len(parts))}
    known = sorted(folders | set(names))
    near = difflib.get_close_matches(inner, known, n=1)
    return f"did you mean '{near[0]}'?" if near else f"it has {', '.join(known[:5]) or 'no files'}"


def _members(stream: IO[bytes], where: str) -> list[_Member]:
    stream.seek(0)
    magic = stream.read(4)
    stream.seek(0)
    found: list[_Member] = []
    total_bytes = 0
    # the declared sizes bind: neither zipfile nor tarfile hands out more bytes of a member than its header says
    for raw_name, size_bytes, kind, opener in _zip_entries(stream) if magic in _ZIP else _tar_entries(stream, where):
        total_bytes += size_bytes
        if size_bytes < 0 or total_bytes > MAX_UNPACKED_BYTES:
            raise BadInput(f"{where}: the archive unpacks to more than {MAX_UNPACKED_BYTES} bytes; it is not opened")
        # `a//b` and `./a/b` are `a/b`: what is left of a name when its beginning is taken off leads nowhere else
        parts = [part for part in re.split(r"[/\\]", raw_name) if part not in {"", "."}]
        drive = any(re.match(r"[A-Za-z]:", part) for part in parts)
        if raw_name.startswith(("/", "\\")) or ".." in parts or drive:
            raise BadInput(f"{where}: the archive is not safe: it has a member named '{raw_name}'")
        found.append(_Member("/".join(parts), kind, opener))
    return found


_Entry = tuple[str, int, Literal["file", "folder", "other"], Callable[[], IO[bytes]]]


def _zip_entries(stream: IO[bytes]) -> Iterator[_Entry]:
    archive = zipfile.ZipFile(stream)
    for info in archive.infolist():
        type_bits = stat.S_IFMT(info.external_attr >> 16)
        plain = type_bits in (0, stat.S_IFREG, stat.S_IFDIR)
        kind: Literal["file", "folder", "other"] = "other" if not plain else "folder" if info.is_dir() else "file"
        yield info.filename, info.file_size, kind, lambda info=info: archive.open(info)  # type: ignore[misc]


def _tar_entries(stream: IO[bytes], where: str) -> Iterator[_Entry]:
    content = _TarContent(stream, where)
    archive = tarfile.open(fileobj=content, mode="r:")  # noqa: SIM115 (the members are opened after this function ends)
    for info in archive:
        content.next_member()
        # of no use here, and tarfile gives every member a copy of all that went before
        info.pax_headers = {}
        archive.pax_headers = {}
        kind: Literal["file", "folder", "other"] = "file" if info.isfile() else "folder" if info.isdir() else "other"
        yield info.name, info.size, kind, lambda info=info: archive.extractfile(info)  # type: ignore[misc]
    content.listed()


class _TarContent(io.BufferedIOBase):
    """What a tar archive decompresses to. Until it is `listed`, headers are what is read of it, and those are counted: each
    says how long it is, and tarfile reads it whole. ``BadInput`` beyond the limits."""

    def __init__(self, stream: IO[bytes], where: str) -> None:
        magic = stream.read(5)
        stream.seek(0)
        opener = next((opener for start, opener in _COMPRESSED.items() if magic.startswith(start)), None)
        self._stream = stream if opener is None else opener(stream)
        self._where = where
        self._member_bytes: int | None = 0
        self._all_bytes = 0

    def next_member(self) -> None:
        """The headers of a member were read, those of the next are."""
        self._member_bytes = 0

    def listed(self) -> None:
        """What is read from now on is what the members hold."""
        self._member_bytes = None

    def read(self, size: int | None = -1, /) -> bytes:
        """As of any file."""
        wanted = -1 if size is None else size
        if self._member_bytes is not None:
            self._member_bytes += wanted
            self._all_bytes += wanted
            # a negative size would be all there is
            if wanted < 0 or self._member_bytes > MAX_HEADER_BYTES or self._all_bytes > MAX_HEADERS_BYTES:
                raise BadInput(f"{self._where}: the archive is not safe: it has headers of extraordinary length")
        with _clear_compression_errors():
            return self._stream.read(wanted)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """As of any file."""
        # a header can hide how far the next one is; headers pad what they head to whole blocks no longer than themselves
        if offset > MAX_UNPACKED_BYTES + 2 * MAX_HEADERS_BYTES:
            raise BadInput(f"{self._where}: the archive unpacks to more than {MAX_UNPACKED_BYTES} bytes; it is not opened")
        with _clear_compression_errors():
            return self._stream.seek(offset, whence)

    def tell(self) -> int:
        """As of any file."""
        return self._stream.tell()


@contextmanager
def _clear_compression_errors() -> Iterator[None]:
    """gzip and bz2 say with an OSError that what they read is none of theirs; those of the file system have a number."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            raise
        raise tarfile.ReadError(str(error)) from error


def _prefixes(members: list[_Member]) -> list[str]:
    tops = {member.name.split("/")[0] for member in members if member.name}
    return ["", f"{tops.pop()}/"] if len(tops) == 1 else [""]


def _write(members: list[_Member], wanted: str, target: Path, where: str) -> None:
    for member in members:
        if member.kind == "other":
            raise BadInput(f"{where}: the archive is not safe: '{member.name}' is a link or a special file, not a plain file")
        path = target / member.name.removeprefix(wanted).removeprefix("/") if member.name != wanted else target
        if not path.is_relative_to(target):
            raise BadInput(f"{where}: the archive is not safe: it has a member named '{member.name}'")
        if member.kind == "folder":
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        with member.open() as source, path.open("wb") as sink:
            shutil.copyfileobj(source, sink)


@contextmanager
def _clear_archive_errors(where: str, what: str = "a zip or tar archive") -> Iterator[None]:
    try:
        yield
    except _BROKEN as error:
        raise BadInput(f"{where}: cannot be read as {what}: {reason(error)}") from error
