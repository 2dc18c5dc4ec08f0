"""The zip application: what comes along, that it imports nothing it must not, and that it runs."""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from instatune_deploy.devices.pyz import build_pyz, modules_of
from instatune_deploy.devices.runtimes.modules import MODULES
from instatune_deploy.zips import zip_of

SCRIPT = "instatune_deploy.devices.script"
MEASURE = build_pyz(SCRIPT, [*MODULES.values()])
ALLOWED = {"instatune_deploy", "numpy", "onnxruntime", "openvino"}


def sources() -> dict[str, str]:
    with zipfile.ZipFile(io.BytesIO(MEASURE)) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


def top_names(source: str) -> set[str]:
    """Of every import, wherever it stands, in the syntax of Python 3.10."""
    names = set()
    for node in ast.walk(ast.parse(source, feature_version=(3, 10))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module).split(".")[0])
    return names


def test_modules_import_nothing_but_what_a_device_has() -> None:
    assert {"__main__.py", "instatune_deploy/devices/probe.py", "instatune_deploy/devices/runtimes/openvino.py"} <= set(sources())
    for name, source in sources().items():
        assert top_names(source) - set(sys.stdlib_module_names) <= ALLOWED, name


def test_everything_of_ours_that_is_imported_comes_along() -> None:
    packed = set(sources())
    for name, source in sources().items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("instatune_deploy"):
                path = str(node.module).replace(".", "/")
                assert {f"{path}.py", f"{path}/__init__.py"} & packed, f"{name}: {node.module}"


def test_always_the_same_bytes() -> None:
    assert build_pyz(SCRIPT, [*MODULES.values()]) == MEASURE
    assert zip_of({"b": b"2", "a": b"1"}) == zip_of({"a": b"1", "b": b"2"})


def test_modules_of() -> None:
    assert modules_of(["instatune_deploy.devices.latency"]) == [
        "instatune_deploy",
        "instatune_deploy.devices",
        "instatune_deploy.devices.latency",
    ]
    assert "instatune_deploy.devices.latency" in modules_of(["instatune_deploy.devices.statistics"])


def test_a_module_that_needs_more_is_refused() -> None:
    with pytest.raises(ValueError, match=r"(errors imports click|files imports psutil), which a device need not have$"):
        build_pyz("instatune_deploy.files")


def test_it_runs(tmp_path: Path) -> None:
    (tmp_path / "measure.pyz").write_bytes(MEASURE)
    command = [sys.executable, "-S", "measure.pyz", "--help"]
    done = subprocess.run(command, cwd=tmp_path, env={}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: measure.pyz ")
    done = subprocess.run(command[:-1], cwd=tmp_path, env={}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (
        2,
        f"Error: {tmp_path.resolve() / 'plan.json'}: cannot be read; unpack the whole kit, and leave its files together\n",
    )
