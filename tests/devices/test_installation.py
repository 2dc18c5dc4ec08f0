from __future__ import annotations

import importlib.metadata
from typing import Any

import pytest

from instatune_deploy.devices import installation as module
from instatune_deploy.devices.installation import Package, installation, needed_packages
from instatune_deploy.devices.runtimes import modules


def test_needed_packages() -> None:
    there = {"torch": "2.13.0+cpu", "old": "1.9", "early": "3.0.0rc1"}
    wanted = ["torch<2.14,>=2.9", "old>=2", "gone>=1", "early>=2", 'pytest>=8; extra == "test"', 'never; python_version < "3"']
    assert needed_packages(wanted, there.get) == (
        Package("torch", "2.13.0+cpu", "<2.14,>=2.9", True),
        Package("old", "1.9", ">=2", False),
        Package("gone", None, ">=1", False),
        Package("early", "3.0.0rc1", ">=2", True),
    )


def test_this_installation() -> None:
    found = installation()
    assert found.needed is not None
    versions = {package.name: package.version for package in found.needed}
    assert versions["torch"] == importlib.metadata.version("torch")
    assert "pytest" not in versions
    runtimes = {runtime.name: runtime for runtime in found.runtimes}
    assert set(runtimes) == {"onnxruntime", "openvino"}
    assert all("cpu" in runtime.providers for runtime in runtimes.values())
    assert all(not set(runtime.providers) & set(runtime.lacking) for runtime in runtimes.values())


def test_another_package_may_bring_a_module(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "onnxruntime-gpu":
            return "1.30.0"
        raise importlib.metadata.PackageNotFoundError(name)

    def requires(name: str) -> list[str]:
        return ["onnxruntime>=1.22", "other"]

    monkeypatch.setattr(importlib.metadata, "packages_distributions", lambda: {"onnxruntime": ["onnxruntime-gpu"]})
    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(importlib.metadata, "requires", requires)
    found = installation()
    assert found.needed == (Package("onnxruntime", "1.30.0", ">=1.22", True), Package("other", None, "", False))
    assert found.runtimes[0].packages == ("onnxruntime-gpu",)


def test_not_installed_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def requires(name: str) -> list[str]:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", requires)
    assert installation().needed is None


def test_runtimes_that_are_missing_or_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(name: str) -> Any:
        raise ImportError("libonnx.so: cannot open\nand more")

    monkeypatch.setattr(module.modules, "installed", lambda name: name == "onnxruntime")
    monkeypatch.setattr(modules, "runtime_module", fails)
    broken, missing = installation().runtimes
    assert broken.broken == "ImportError: libonnx.so: cannot open"
    assert (missing.name, missing.version, missing.broken) == ("openvino", None, None)
