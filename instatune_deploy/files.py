"""Files that are either whole or not there: atomic writes, and what the file system says in words."""

from __future__ import annotations

import glob
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

from instatune_deploy.errors import BadInput, clear_os_errors, reason


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
    except ValueError as error:  # a number of more digits than Python reads
        raise BadInput(f"{path}: not valid JSON ({reason(error)})") from error


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


def check_writable(folder: Path) -> None:
    """``BadInput`` unless files can be made in ``folder`` (which is created when missing)."""
    with clear_os_errors(f"cannot write to {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
