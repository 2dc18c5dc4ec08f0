"""What measures on a device where nothing else of ours is installed."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import instatune_deploy

PACKAGE = Path(instatune_deploy.__file__).parent
DEVICES = "instatune_deploy.devices"
PURE = [
    *(
        f"{DEVICES}.{name}"
        for name in ("runs", "latency", "statistics", "cpus", "gpu", "timing", "probe", "serve", "memory", "energy")
    ),
    *(f"{DEVICES}.runtimes.{name}" for name in ("base", "modules", "onnxruntime", "openvino")),
]
OTHERS = {"numpy", "onnxruntime", "openvino"}


def tree(module: str) -> ast.Module:
    path = PACKAGE.joinpath(*module.split(".")[1:]).with_suffix(".py")
    # what Ubuntu 22.04 and NVIDIA's JetPack 6 come with
    return ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 10))


def imported(node: ast.AST) -> Iterator[str]:
    """Modules that a file imports anywhere, also inside functions and for types only."""
    for item in ast.walk(node):
        if isinstance(item, ast.Import):
            yield from (alias.name for alias in item.names)
        elif isinstance(item, ast.ImportFrom):
            assert item.level == 0
            # `from package import module`, or a name of a module
            full = [f"{item.module}.{alias.name}" for alias in item.names]
            yield from (name if name in PURE else str(item.module) for name in full)


def test_the_imports_are_seen() -> None:
    assert {f"{DEVICES}.cpus", f"{DEVICES}.latency", "gc", "resource"} <= set(imported(tree(f"{DEVICES}.timing")))
    assert "onnxruntime" in set(imported(tree(f"{DEVICES}.runtimes.onnxruntime")))


@pytest.mark.parametrize("module", PURE)
def test_nothing_is_imported_but_the_standard_library_numpy_and_a_runtime(module: str) -> None:
    foreign = [
        name
        for name in imported(tree(module))
        if name not in PURE and name.partition(".")[0] not in OTHERS | sys.stdlib_module_names
    ]
    assert foreign == []


def test_each_runtime_is_imported_by_its_own_file_only() -> None:
    for runtime in ("onnxruntime", "openvino"):
        users = [module for module in PURE if runtime in set(imported(tree(module)))]
        assert users == [f"{DEVICES}.runtimes.{runtime}"]


def test_the_packages_around_them_are_as_light() -> None:
    for folder in (PACKAGE, PACKAGE / "devices", PACKAGE / "devices" / "runtimes"):
        around = ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))
        assert {name.partition(".")[0] for name in imported(around)} <= sys.stdlib_module_names
