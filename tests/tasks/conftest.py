"""Package archives made by hand, a pip that sees only them, and a cache of its own for every test."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

MARKER = "setup-py-was-executed"


@dataclass(frozen=True)
class Archives:
    folder: Path
    wheel: Path
    source: Path

    @staticmethod
    def sha256(path: Path) -> str:
        return hashlib.sha256(path.read_bytes()).hexdigest()


def tar_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("INSTATUNE_CACHE", str(folder))
    return folder


@pytest.fixture
def bare_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pip without configuration and without indexes."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")


@pytest.fixture
def archives(tmp_path: Path, bare_pip: None, monkeypatch: pytest.MonkeyPatch) -> Archives:
    """Wheel and source archive of ``some-data==1.5`` in a find-links folder; running the latter's setup.py leaves a marker."""
    folder = tmp_path / "links"
    folder.mkdir()
    wheel = folder / "some_data-1.5-cp27-cp27m-win32.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("some_data/model/config.json", "{}")
        archive.writestr("some_data/model/deep/weights", "w" * 1000)
        archive.writestr("some_data/__init__.py", "raise SystemExit")
        archive.writestr("some_data-1.5.dist-info/METADATA", "Name: some-data")
    source = folder / "some-data-1.5.tar.gz"
    top = "some-data-1.5"
    setup = f"open({str(tmp_path / MARKER)!r}, 'w').close()\nraise SystemExit('ran')\n"
    source.write_bytes(
        tar_of(
            {
                f"{top}/setup.py": setup.encode(),
                f"{top}/data/nested.tar.gz": tar_of({"nested/rows.txt": b"1\tgood\n", "nested/other.txt": b"no"}),
                f"{top}/data/plain.csv": b"text,label\n",
            }
        )
    )
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return Archives(folder, wheel, source)
