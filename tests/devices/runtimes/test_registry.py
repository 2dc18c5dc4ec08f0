from __future__ import annotations

import subprocess
import sys

import pytest

from instatune_deploy.devices.runtimes import registry
from instatune_deploy.errors import BadInput


def test_unknown_runtime() -> None:
    with pytest.raises(BadInput, match="unknown runtime 'tensorrt'; there are: onnxruntime, openvino"):
        registry.open_session(b"", "tensorrt", "fp32", 1)


def test_onnxruntime_has_no_bf16() -> None:
    with pytest.raises(BadInput, match="onnxruntime does not run bf16 here; it runs fp32"):
        registry.open_session(b"", "onnxruntime", "bf16", 1)


def test_no_threads() -> None:
    with pytest.raises(BadInput, match="threads must be at least 1"):
        registry.open_session(b"", "onnxruntime", "fp32", 0)


def test_runtime_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "installed", lambda package: False)
    with pytest.raises(BadInput, match="the runtime openvino is not installed; `pip install openvino` installs it"):
        registry.version("openvino")


def test_profiles_are_read_without_loading_a_runtime() -> None:
    code = "import sys, instatune_deploy.devices.profile, instatune_deploy.devices.store; "
    code += "print([name for name in ('onnxruntime', 'openvino', 'torch', 'scipy') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
