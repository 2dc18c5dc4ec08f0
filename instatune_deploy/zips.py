"""Zip archives that depend on nothing but what is in them: sorted, without dates, readable by all."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
import zipfile
from pathlib import Path

WRITTEN = (1980, 1, 1, 0, 0, 0)


def zip_of(files: dict[str, bytes]) -> bytes:
    """A zip archive of ``files`` that depends on nothing but them: sorted, without dates."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in sorted(files):
            archive.writestr(entry(name), files[name])
    return stream.getvalue()


def entry(name: str) -> zipfile.ZipInfo:
    """A compressed file of an archive, readable by all, without a date."""
    info = zipfile.ZipInfo(name, WRITTEN)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = 0o644 << 16
    info.create_system = 3  # Unix, wherever it is made
    return info


def write_zip(folder: Path, path: Path) -> None:
    """All files below ``folder`` under their paths in it: the same files give the same bytes. Whole or not there at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream, zipfile.ZipFile(stream, "w") as archive:
            for file in sorted(file for file in folder.rglob("*") if file.is_file()):
                name = entry(file.relative_to(folder).as_posix())
                with file.open("rb") as source, archive.open(name, "w", force_zip64=True) as target:
                    shutil.copyfileobj(source, target, 1 << 20)
        os.chmod(partial, 0o644)
        os.replace(partial, path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
