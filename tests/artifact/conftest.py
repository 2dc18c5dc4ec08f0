"""Finished artifacts of a tiny network."""

from __future__ import annotations

from pathlib import Path

import pytest

from .tiny import RUNTIMES, make_artifact


@pytest.fixture(params=RUNTIMES)
def artifact(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A finished artifact of each runtime."""
    return make_artifact(tmp_path / "generic-cpu", request.param)


@pytest.fixture
def onnx_artifact(tmp_path: Path) -> Path:
    """A finished artifact for ONNX Runtime."""
    return make_artifact(tmp_path / "generic-cpu")
