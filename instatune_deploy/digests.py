"""Checksums of files and values. Standard library only, of Python 3.10: devices that have nothing of ours compute them too."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

CHUNK_BYTES = 1 << 20


def canonical_json(value: Any) -> str:
    """The one JSON text of ``value``: sorted keys, no spaces, no NaN (ValueError). Equal values give equal texts."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256 (hexadecimal) of the canonical JSON of ``value``."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 (hexadecimal) of a file's bytes."""
    found = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(CHUNK_BYTES):
            found.update(block)
    return found.hexdigest()


def folder_sha256(folder: Path) -> str:
    """SHA-256 over names and bytes of every file below ``folder``; a single file counts as itself."""
    if folder.is_file():
        return file_sha256(folder)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return digest({name: file_sha256(folder / name) for name in names})
