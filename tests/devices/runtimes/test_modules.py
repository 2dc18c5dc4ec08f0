from __future__ import annotations

from contextlib import closing
from typing import Any

import numpy as np
import onnxruntime
import openvino
import pytest

from instatune_deploy.devices.runs import Run
from instatune_deploy.devices.runtimes import modules
from instatune_deploy.devices.runtimes.base import Refused
from instatune_deploy.devices.runtimes.modules import installed, open_run, runtime_module, version


def test_installed() -> None:
    assert installed("numpy")
    assert not installed("no_such_package")


def test_versions() -> None:
    assert version("onnxruntime") == onnxruntime.__version__
    assert version("openvino") == openvino.__version__


@pytest.mark.parametrize("runtime", list(modules.MODULES))
def test_a_module_has_what_a_runtime_needs(runtime: str) -> None:
    module = runtime_module(runtime)
    assert all(callable(getattr(module, name)) for name in ("version", "missing_provider", "open_session"))
    assert module.missing_provider("cpu") is None


def test_unknown_runtime() -> None:
    with pytest.raises(Refused, match="unknown runtime 'numpy'; there are: onnxruntime, openvino"):
        runtime_module("numpy")


def test_runtime_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modules, "installed", lambda package: False)
    with pytest.raises(Refused, match="the runtime openvino is not installed; `pip install openvino` installs it"):
        version("openvino")


@pytest.mark.parametrize("runtime", list(modules.MODULES))
def test_a_run_is_opened_as_it_says(graph: bytes, inputs: dict[str, Any], logits: Any, runtime: str) -> None:
    with closing(open_run(graph, Run(runtime, "fp32", 1))) as session:
        said = session.describe()
        assert (said["precision"], said["threads"], said["provider"]) == ("fp32", 1, "cpu")
        np.testing.assert_allclose(session.run(inputs)["logits"], logits, rtol=1e-5, atol=1e-6)
