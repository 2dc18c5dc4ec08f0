"""Fashion-MNIST out of Debian's package: 60,000 / 10,000 pictures of garments, 28 x 28 grey, 10 classes (MIT licence).

Needs apt-get and dpkg, but no root. ``python -m benchmarks.vision.fashion --output FOLDER``
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import click

from instatune_deploy.cli import ClearErrors
from instatune_deploy.digests import file_sha256
from instatune_deploy.errors import BadInput, clear_os_errors
from instatune_deploy.files import write_bytes

PACKAGE = "dataset-fashion-mnist"
INSIDE = Path("usr/share/datasets/fashion-mnist")
FILES = {
    "train-images-idx3-ubyte.gz": "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
    "train-labels-idx1-ubyte.gz": "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
    "t10k-images-idx3-ubyte.gz": "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
    "t10k-labels-idx1-ubyte.gz": "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
}
"""Names and SHA-256."""
SECONDS = 600
"""A download may take so long."""


@click.command(cls=ClearErrors, help=__doc__)
@click.option("--output", required=True, type=click.Path(path_type=Path), help="Where the four files are put.")
def main(output: Path) -> None:
    """Fetch what is not there."""
    click.echo(f"{output}: {'fetched' if fetch(output) else 'already there'}")


def fetch(output: Path) -> bool:
    """Put the four files into ``output``; False when they were there already, and nothing was done.

    ``BadInput`` when the tools are missing, the package cannot be had, or its files are not those that were published.
    """
    if not wrong(output, FILES):
        return False
    for tool in ("apt-get", "dpkg"):
        if shutil.which(tool) is None:
            names = ", ".join(FILES)
            raise BadInput(f"{tool} is needed to fetch Fashion-MNIST (Debian, Ubuntu); elsewhere put {names} into {output}")
    with clear_os_errors(f"cannot write {output}"), tempfile.TemporaryDirectory() as scratch:
        _run(["apt-get", "download", PACKAGE], Path(scratch))
        for package in Path(scratch).glob(f"{PACKAGE}_*.deb"):
            _run(["dpkg", "-x", str(package), "."], Path(scratch))
        found = Path(scratch) / INSIDE
        for name, why in wrong(found, FILES).items():
            raise BadInput(f"{PACKAGE}: {name} {why}")
        for name in FILES:
            write_bytes(output / name, (found / name).read_bytes())
    return True


def wrong(folder: Path, files: Mapping[str, str]) -> dict[str, str]:
    """Those of ``files`` (names and SHA-256) that ``folder`` does not have as they should be, and why."""
    found: dict[str, str] = {}
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            found[name] = "is not there"
        elif (sha256 := file_sha256(path)) != expected:
            found[name] = f"has another sha256: expected {expected}, found {sha256}"
    return found


def _run(command: list[str], folder: Path) -> None:
    """Run ``command`` in ``folder``; ``BadInput`` with its last line when it fails."""
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=SECONDS)
    except subprocess.TimeoutExpired as error:
        raise BadInput(f"`{' '.join(command)}` took more than {SECONDS} s") from error
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
        raise BadInput(f"`{' '.join(command)}` failed: {lines[-1]}")


if __name__ == "__main__":
    main()
