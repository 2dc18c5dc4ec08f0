"""Files that are either whole or not there: atomic writes, checksums, canonical JSON."""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from instatune_deploy.errors import BadInput, UserError

CHUNK_BYTES = 1 << 20


def canonical_json(value: Any) -> str:
    """The one JSON text of ``value``: sorted keys, no spaces, no NaN. Equal values give equal texts."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256 (hexadecimal) of the canonical JSON of ``value``."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 (hexadecimal) of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def folder_sha256(folder: Path) -> str:
    """SHA-256 over names and bytes of every file below ``folder``; a single file counts as itself."""
    if folder.is_file():
        return file_sha256(folder)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return digest({name: file_sha256(folder / name) for name in names})


def write_text(path: Path, text: str) -> None:
    """Write ``text`` in UTF-8, as `write_bytes` does."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` so that a reader, or a kill in the middle, sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(partial, 0o644)
        os.replace(partial, path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically. NaN and infinity are refused (ValueError)."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file; ``BadInput`` names it when it cannot be read or is no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: cannot be read: {reason(error)}") from error
    except json.JSONDecodeError as error:
        raise BadInput(f"{path}: not valid JSON (line {error.lineno}: {error.msg})") from error


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A scratch folder that becomes ``target`` when the block ends well, and vanishes when it does not.

    An older ``target`` stays until the new one is complete. Full disks and missing permissions become ``BadInput``.
    """
    with clear_os_errors(f"cannot write {target}"):
        target.parent.mkdir(parents=True, exist_ok=True)
        _drop_abandoned(target)
        scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=f"{_scratch(target)}{os.getpid()}."))
    try:
        with clear_os_errors(f"cannot write {target}"):
            yield scratch
            scratch.chmod(0o755)
            replace_folder(scratch, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _scratch(target: Path) -> str:
    # the host's name too: a process number says nothing on another host that shares the folder
    return f".{target.name}.scratch.{socket.gethostname().replace('.', '-')}."


def _drop_abandoned(target: Path) -> None:
    """Put right what a killed process left: its scratch folder, and the old ``target`` it had moved aside already."""
    for path in target.parent.glob(f".{glob.escape(target.name)}.old.*"):
        if not target.exists() and (path / target.name).is_dir():
            os.replace(path / target.name, target)
        shutil.rmtree(path, ignore_errors=True)
    for path in target.parent.iterdir():
        pid = path.name.removeprefix(_scratch(target)).partition(".")[0]
        if path.name.startswith(_scratch(target)) and pid.isdigit() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(path, ignore_errors=True)


def replace_folder(new: Path, target: Path) -> None:
    """Put folder ``new`` where ``target`` is; the old one is removed only after the new one stands there."""
    old = None
    if target.exists():
        old = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.old."))
        os.replace(target, old / target.name)
    try:
        os.replace(new, target)
    except OSError:
        if old is not None:
            os.replace(old / target.name, target)
        raise
    finally:
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)


@contextmanager
def clear_os_errors(what: str) -> Iterator[None]:
    """Turn the file system's refusals into one line that says ``what`` could not be done and why."""
    try:
        yield
    except OSError as error:
        raise BadInput(f"{what}: {reason(error)}") from error
    except Exception as error:
        # safetensors and tokenizers say in words what other libraries say with an OSError
        if os.strerror(errno.ENOSPC) not in str(error) or isinstance(error, UserError):
            raise
        raise BadInput(f"{what}: {reason(OSError(errno.ENOSPC, ''))}") from error


def reason(error: BaseException) -> str:
    """The part of an error that helps a person: no numbers, no repetition of the path."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "the disk is full; free some space and run again"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error).strip().split("\n")[0]


def check_writable(folder: Path) -> None:
    """``BadInput`` unless files can be made in ``folder`` (which is created when missing)."""
    with clear_os_errors(f"cannot write to {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
