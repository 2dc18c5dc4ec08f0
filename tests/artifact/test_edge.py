"""`python verify.py` in an artifact, in a Python that has NumPy and the runtime, and refuses everything else."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from instatune_deploy.artifact import edge
from instatune_deploy.artifact.manifest import SCHEMA_VERSION, FileEntry, read_manifest
from instatune_deploy.artifact.tools import VERIFY_TEXT
from instatune_deploy.digests import file_sha256

from .test_samples import header
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


def _samples(folder: Path) -> None:
    """Rows without end, under a right checksum."""
    path = folder / "samples.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("input_ids.npy", header((10**12, 10)))
    entry = FileEntry(sha256=file_sha256(path), bytes=path.stat().st_size)
    files = {**read_manifest(folder).files, "samples.npz": entry}
    reseal(folder, files={name: item.model_dump() for name, item in files.items()})


def _resealed(**changes: object) -> Callable[[Path], object]:
    """The manifest with ``changes`` and a right checksum, whether it makes sense or not."""

    def spoil(folder: Path) -> None:
        edit(folder, **changes)
        reseal_raw(folder / "manifest.json")

    return spoil


def _budget(**limits: object) -> Callable[[Path], object]:
    return _resealed(budget={"text": "as asked", "statistic": "p90", "limit_ms": None, **limits})


def _unlisted(folder: Path) -> None:
    files = json.loads((folder / "manifest.json").read_text())["files"]
    _resealed(files={name: entry for name, entry in files.items() if name != "verify.pyz"})(folder)


def _without_sha256(folder: Path) -> None:
    files = json.loads((folder / "manifest.json").read_text())["files"]
    _resealed(files={**files, "model.onnx": {"bytes": 1}})(folder)


def _other_code(folder: Path) -> None:
    """A whole zip, with code that says that all is well."""
    with zipfile.ZipFile(folder / "verify.pyz", "w") as archive:
        for name in ("__init__.py", "artifact/__init__.py"):
            archive.writestr(f"instatune_deploy/{name}", "")
        archive.writestr("instatune_deploy/artifact/edge.py", "def main(folder):\n    return 0\n")


def _flip_code(at: float) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        content = bytearray((folder / "verify.pyz").read_bytes())
        content[int(at * (len(content) - 1))] ^= 0x10
        (folder / "verify.pyz").write_bytes(content)

    return spoil


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
    (lambda folder: (folder / "manifest.json").write_text("[]"), 4, "not the manifest of an artifact"),
    (_unlisted, 4, "not the manifest of an artifact (it does not list verify.pyz)"),
    (_without_sha256, 4, "damaged: 'sha256' is missing or odd"),
    (_resealed(runtime="json"), 4, "damaged: 'json' on 'cpu' is missing or odd"),
    (_resealed(runtime=["onnxruntime"]), 4, "damaged: 'runtime' is missing or odd"),
    (_resealed(provider=["cpu"]), 4, "damaged: 'onnxruntime' on ['cpu'] is missing or odd"),
    (_resealed(batch_size=0), 4, "damaged: 'batch_size' is missing or odd"),
    (_resealed(threads=True), 4, "damaged: 'threads' is missing or odd"),
    (_resealed(threads=1.5), 4, "damaged: 'threads' is missing or odd"),
    (_resealed(macs=10**400), 4, "damaged: 'macs' is missing or odd"),
    (_resealed(input_shapes={"input_ids": [1, -8]}), 4, "damaged: the shape of 'input_ids' is missing or odd"),
    (_resealed(input_shapes={"input_ids": "1x8"}), 4, "damaged: the shape of 'input_ids' is missing or odd"),
    (_resealed(input_shapes=[]), 4, "damaged: "),
    (_resealed(parity={"tolerance": "inf"}), 4, "damaged: 'tolerance' is missing or odd"),
    (_budget(size_bytes="much"), 4, "damaged: 'size_bytes' is missing or odd"),
    (_budget(also_ms={"p42": 1.0}), 4, "damaged: a percentile of the budget is missing or odd"),
    (_budget(size_bytes=1000.0), 4, "budget: its "),
    (_budget(macs=47.0), 4, "budget: its 48 MACs exceed its budget of 47 an input"),
    (_budget(accuracy=0.88), 4, "budget: its validation accuracy of 0.875 is below its budget of 0.88"),
    (_budget(memory_bytes=1e6), 4, "budget: its peak memory of 70000000 bytes exceeds its budget of 1000000"),
    *[(_flip_code(at), 4, "verify.pyz: missing, or changed") for at in (0, 0.1, 0.5, 0.9, 1)],
    (_other_code, 4, "verify.pyz: missing, or changed"),
    (lambda folder: (folder / "verify.pyz").unlink(), 4, "verify.pyz: missing, or changed"),
    (lambda folder: (folder / "verify.pyz").write_bytes(b"PK"), 4, "verify.pyz: missing, or changed"),
    (lambda folder: (folder / "json.py").write_text("raise SystemExit(0)"), 4, "file 'json.py': it does not belong"),
    (lambda folder: (folder / "hashlib.py").write_text("raise SystemExit(0)"), 4, "file 'hashlib.py': it does not belong"),
    (lambda folder: os.truncate(folder / "manifest.json", 1 << 40), 4, f"it has {1 << 40} bytes, and none is so large"),
    (lambda folder: _samples(folder), 4, "would take 80000000000128 bytes, and has 128"),
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


@pytest.mark.parametrize("package", ["numpy", "onnxruntime"])
def test_with_a_broken_package(made: dict[str, Path], tmp_path: Path, package: str) -> None:
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text("raise ImportError('lib.so: cannot open shared object file')")
    done = run(tmp_path, made["onnxruntime"])
    assert done.returncode == 2
    assert re.fullmatch(rf"Error: {package} cannot be imported.*: pip install {package}\n", done.stderr)


def test_an_old_python_is_told_so() -> None:
    """Nothing in verify.py is of a newer language than Python 2.7's."""
    newer = (ast.JoinedStr, ast.NamedExpr, ast.AnnAssign, ast.Nonlocal, ast.AsyncFunctionDef, ast.Starred, ast.Match)
    tree = ast.parse(VERIFY_TEXT.format(package="onnxruntime", largest=1))
    assert not [node for node in ast.walk(tree) if isinstance(node, newer)]


def test_the_size_is_that_of_the_files(site: Path, made: dict[str, Path], tmp_path: Path) -> None:
    """Whatever the manifest says of it; exactly the limit is kept."""
    folder = tmp_path / "copy"
    shutil.copytree(made["openvino"], folder)
    size = sum((folder / name).stat().st_size for name in ("openvino_model.xml", "openvino_model.bin"))
    _budget(size_bytes=float(size))(folder)
    done = run(site, folder)
    assert done.returncode == 0, done.stderr
    assert "as asked: nothing of it depends on the host; the manifest's figures keep it" in done.stdout
    _budget(size_bytes=float(size - 1))(folder)
    done = run(site, folder)
    assert (done.returncode, f"its {size} bytes exceed its budget of {size - 1}" in done.stderr) == (4, True)


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
