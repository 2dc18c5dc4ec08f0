"""`python verify.py` in an artifact, in a Python that has NumPy and the runtime, and refuses everything else."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from instatune_deploy.artifact import edge
from instatune_deploy.artifact.manifest import SCHEMA_VERSION

from .test_verify import reseal_raw
from .tiny import edit, make_artifact, reseal

REFUSED = (
    "torch", "transformers", "tokenizers", "pydantic", "click", "psutil", "onnx", "yaml", "pandas", "sklearn", "catboost",
    "pymoo", "sqlalchemy", "optimum",
)  # fmt: skip
SITE = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {refused!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Refuse())
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    (folder / "sitecustomize.py").write_text(SITE.format(refused=REFUSED), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("made")
    return {runtime: make_artifact(folder / runtime, runtime) for runtime in ("onnxruntime", "openvino")}


def run(site: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Somewhere else, so that the checkout of this package is not beside it; what is imported of it is the artifact's own."""
    environment = {**os.environ, "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, str(folder / "verify.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=site, env=environment)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_good_artifact(site: Path, made: dict[str, Path], runtime: str) -> None:
    """On a machine too busy to say it says so (5), and never that the budget of 20 ms is exceeded (4)."""
    done = run(site, made[runtime])
    assert done.returncode in (0, 5), done.stderr
    lines = done.stdout.splitlines()
    assert "ok      parity: logits of 5 rows differ by up to" in done.stdout
    assert ("is what its manifest says." in lines[-1]) is (done.returncode == 0)
    assert not list(made[runtime].glob("__pycache__"))


def test_json(site: Path, made: dict[str, Path]) -> None:
    done = run(site, made["onnxruntime"], "--json")
    value = json.loads(done.stdout)
    assert value["exit_code"] == done.returncode
    assert value["ok"] is (done.returncode == 0)
    assert [check["name"] for check in value["checks"]][-2:] == ["parity", "budget"]


def _flip(folder: Path) -> None:
    content = bytearray((folder / "model.onnx").read_bytes())
    content[-1] ^= 1
    (folder / "model.onnx").write_bytes(content)


def _truncate(folder: Path) -> None:
    (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes()[:-9])


def _outside(folder: Path) -> None:
    path = folder / "manifest.json"
    value = json.loads(path.read_text())
    path.write_text(json.dumps({**value, "files": {**value["files"], "../secret": {"sha256": "0" * 64, "bytes": 1}}}))
    reseal_raw(path)


def _newer(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": SCHEMA_VERSION + 1}))


SPOILED: list[tuple[Callable[[Path], object], int, str]] = [
    (_flip, 4, "file model.onnx: its content was changed"),
    (_truncate, 4, "file model.onnx: truncated"),
    (lambda folder: (folder / "samples.npz").unlink(), 4, "file samples.npz: it is missing"),
    (lambda folder: (folder / "numpy.py").write_text("raise SystemExit(0)"), 4, "file 'numpy.py': it does not belong"),
    (lambda folder: edit(folder, threads=2), 4, "damaged or edited"),
    (lambda folder: (folder / "manifest.json").write_text("{"), 4, "damaged: it is no JSON"),
    (lambda folder: (folder / "manifest.json").write_text("[]"), 4, "it says no schema_version"),
    (_newer, 4, f"of a newer schema ({SCHEMA_VERSION + 1}) than this reads ({SCHEMA_VERSION})"),
    (_outside, 4, "'../secret', which is not the path of a file inside the artifact, is missing or odd"),
    (lambda folder: (folder / "manifest.json").unlink(), 2, "not an artifact (it has no file manifest.json)"),
]


@pytest.mark.parametrize(("spoil", "code", "message"), SPOILED)
def test_one_clear_line(
    site: Path, made: dict[str, Path], tmp_path: Path, spoil: Callable[[Path], object], code: int, message: str
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(made["onnxruntime"], folder)
    spoil(folder)
    done = run(site, folder)
    assert done.returncode == code, done.stdout + done.stderr
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    said = json.loads(run(site, folder, "--json").stdout)
    assert (said["ok"], said["exit_code"]) == (False, code)


@pytest.mark.parametrize("package", ["numpy", "onnxruntime"])
def test_without_what_it_needs(made: dict[str, Path], tmp_path: Path, package: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(SITE.format(refused=[*REFUSED, package]), encoding="utf-8")
    done = run(tmp_path, made["onnxruntime"])
    assert (done.returncode, done.stderr) == (2, f"Error: {package} is not installed: pip install {package}\n")


def test_more_threads_than_there_are(site: Path, made: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(made["onnxruntime"], folder)
    reseal(folder, threads=4096)
    done = run(site, folder)
    assert done.returncode == 2
    assert re.fullmatch(r"Error: it runs 4096 threads, and this host has \d+ cores\n", done.stderr)


def test_the_modules_run_by_themselves(site: Path, made: dict[str, Path]) -> None:
    """`python verify.pyz` is `python verify.py`."""
    environment = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, str(made["onnxruntime"] / "verify.pyz"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=site, env=environment)
    assert json.loads(done.stdout)["exit_code"] == done.returncode


def test_both_readers_know_the_same_schema() -> None:
    assert edge.SCHEMA_VERSION == SCHEMA_VERSION
