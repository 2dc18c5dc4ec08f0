"""The code itself: floors and rooms, what is never used, linter, types, and what the wheel carries."""

from __future__ import annotations

import ast
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "instatune_deploy"
FLOORS = {
    "cli": 5,
    "__main__": 5,
    "pipeline": 4,
    **dict.fromkeys(["finetune", "predict", "search", "artifact", "report"], 3),
    **dict.fromkeys(["graphs", "devices"], 2),
    **dict.fromkeys(["supernet", "tasks"], 1),
}
"""Of every room; files that are no room stand on floor 0."""


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}


def imported(tree: ast.AST) -> Iterator[str]:
    """Modules of this package that a file imports anywhere, also inside functions and for types only."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports say the whole name"
            # `from package import name`: of a module, or the module itself
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else str(node.module) for name in names]
        yield from (name for name in names if name in MODULES)


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


IMPORTS = {name: set(imported(tree)) for name, tree in MODULES.items()}


def test_the_imports_are_seen() -> None:
    assert "instatune_deploy.search.pareto" in IMPORTS["instatune_deploy.search.linas"]
    assert "instatune_deploy.pipeline.job" in IMPORTS["instatune_deploy.cli"]  # inside a function
    assert "instatune_deploy.supernet.families.bert" in IMPORTS["instatune_deploy.supernet.families"]
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert folders == {name for name in FLOORS if name not in {"cli", "__main__"}}


def test_imports_only_go_down() -> None:
    up = [
        f"{name} imports {other}"
        for name, others in IMPORTS.items()
        for other in others
        if FLOORS.get(room(other), 0) > FLOORS.get(room(name), 0)
    ]
    assert up == []


def test_rooms_of_a_floor_do_not_import_each_other() -> None:
    across = [
        f"{name} imports {other}"
        for name, others in IMPORTS.items()
        for other in others
        if room(name) != room(other)
        and FLOORS.get(room(name), 0) == FLOORS.get(room(other), 0)
        and 0 < FLOORS.get(room(name), 0) < 5
    ]
    assert across == []


def test_no_circles() -> None:
    order = list(TopologicalSorter({name: others - {name} for name, others in IMPORTS.items()}).static_order())
    assert set(order) == set(MODULES)


def test_nothing_unsafe() -> None:
    """No pickles, no code of others, nothing evaluated."""
    found = []
    for name, tree in MODULES.items():
        for node in ast.walk(tree):
            text = ""
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
                text = next((item for item in names if item.split(".")[0] in {"pickle", "cloudpickle", "dill", "joblib"}), "")
            elif isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                wrong = {"eval", "exec", "torch.save", "torch.jit.load", "yaml.unsafe_load", "os.system"}
                text = called if called in wrong else ""
                keywords = [f"{keyword.arg}={ast.unparse(keyword.value)}" for keyword in node.keywords]
                if called == "torch.load" and "weights_only=True" not in keywords:
                    text = called
                for said in keywords:
                    if said in {"trust_remote_code=True", "allow_pickle=True", "shell=True", "weights_only=False"}:
                        text = said
            if text:
                found.append(f"{name}: {text}")
    assert found == []


def test_the_command_line_starts_without_heavy_libraries() -> None:
    heavy = [
        "torch",
        "transformers",
        "openvino",
        "onnxruntime",
        "onnx",
        "datasets",
        "pandas",
        "catboost",
        "pymoo",
        "sklearn",
        "scipy",
    ]
    code = f"import instatune_deploy.cli, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("command", [["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]], ids=" ".join)
def test_clean(command: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_wheel_carries_profiles_and_pipelines(tmp_path: Path) -> None:
    """Built with what is installed: nothing is fetched."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        entry_points = archive.read(next(name for name in names if name.endswith("entry_points.txt"))).decode()
    for folder in ("hardware_profiles", "pipelines"):
        shipped = {f"instatune_deploy/{folder}/{path.name}" for path in (ROOT / folder).glob("*.yaml")}
        assert shipped
        assert shipped <= names
    assert {f"{name.replace('.', '/')}.py" for name in MODULES if not (PACKAGE.parent / name.replace(".", "/")).is_dir()} <= names
    assert "instatune-deploy = instatune_deploy.cli:main" in entry_points
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/"))]
