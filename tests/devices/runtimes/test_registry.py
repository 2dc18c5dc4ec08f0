from __future__ import annotations

import subprocess
import sys
from typing import get_args

import pytest

from instatune_deploy.config import Precision, Provider
from instatune_deploy.devices.runtimes import modules, onnxruntime, openvino, registry
from instatune_deploy.devices.runtimes.base import Refused, RunFailed
from instatune_deploy.devices.runtimes.registry import PRECISIONS, check_run, missing_for, open_session
from instatune_deploy.errors import BadInput

NO_FLAGS: frozenset[str] = frozenset()


@pytest.mark.parametrize(
    ("runtime", "precision", "provider", "message"),
    [
        ("tensorrt", "fp32", "cpu", "unknown runtime 'tensorrt'; there are: onnxruntime, openvino"),
        ("onnxruntime", "bf16", "cpu", "onnxruntime does not run bf16 on cpu; it runs fp32, int8, int8-dynamic"),
        ("onnxruntime", "int8", "cuda", "onnxruntime does not run int8 on cuda; it runs fp32, fp16"),
        ("onnxruntime", "fp32", "npu", "onnxruntime has no provider 'npu'; it has cpu, cuda, tensorrt"),
        ("openvino", "fp32", "cuda", "openvino has no provider 'cuda'; it has cpu, gpu, npu"),
        ("openvino", "int8-dynamic", "cpu", "openvino does not run int8-dynamic on cpu; it runs fp32, bf16, fp16, int8"),
        ("openvino", "fp32", "npu", "openvino does not run fp32 on npu; it runs fp16, int8"),
    ],
)
def test_what_cannot_be_asked_for(runtime: str, precision: str, provider: str, message: str) -> None:
    for call in (lambda: check_run(runtime, precision, provider), lambda: open_session(b"", runtime, precision, 1, provider)):
        with pytest.raises(BadInput) as caught:
            call()
        assert caught.value.message == message


def test_every_setting_can_be_asked_of_some_runtime() -> None:
    assert set(PRECISIONS) == set(modules.MODULES)
    assert {provider for providers in PRECISIONS.values() for provider in providers} == set(get_args(Provider))
    known = {precision for providers in PRECISIONS.values() for precisions in providers.values() for precision in precisions}
    assert known == set(get_args(Precision))
    # and each file knows what it is asked for
    assert set(PRECISIONS["onnxruntime"]) == set(onnxruntime.PROVIDERS)
    assert set(PRECISIONS["openvino"]) == set(openvino.DEVICES)
    assert {precision for precisions in PRECISIONS["openvino"].values() for precision in precisions} == set(openvino.HINTS)


@pytest.mark.parametrize("threads", [0, -1])
def test_no_threads(threads: int) -> None:
    with pytest.raises(BadInput, match="threads must be at least 1"):
        open_session(b"", "onnxruntime", "fp32", threads)


def test_runtime_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modules, "installed", lambda package: False)
    with pytest.raises(BadInput, match="the runtime openvino is not installed; `pip install openvino` installs it"):
        registry.version("openvino")
    assert missing_for("openvino", "fp32", "cpu", NO_FLAGS) == ["package openvino"]


@pytest.mark.parametrize(
    ("runtime", "precision", "flags", "lacks"),
    [
        ("onnxruntime", "fp32", NO_FLAGS, []),
        ("onnxruntime", "int8", NO_FLAGS, []),
        ("openvino", "int8", NO_FLAGS, []),
        ("openvino", "bf16", frozenset({"avx512_bf16"}), []),
        ("openvino", "bf16", frozenset({"amx_bf16", "avx2"}), []),
        ("openvino", "bf16", frozenset({"avx2"}), ["CPU flag avx512_bf16 or amx_bf16 to compute in bf16"]),
        ("openvino", "fp16", frozenset({"asimdhp"}), []),
        ("openvino", "fp16", frozenset({"amx_bf16"}), ["CPU flag amx_fp16 or avx512_fp16 or asimdhp to compute in fp16"]),
    ],
)
def test_what_a_cpu_lacks(runtime: str, precision: str, flags: frozenset[str], lacks: list[str]) -> None:
    assert missing_for(runtime, precision, "cpu", flags) == lacks


def test_what_a_host_lacks_for_other_providers(monkeypatch: pytest.MonkeyPatch) -> None:
    lacks = "ONNX Runtime with its CUDAExecutionProvider (the package onnxruntime-gpu in place of onnxruntime, and an NVIDIA GPU)"
    for built_with, gpu, missing in (
        (["CPUExecutionProvider"], {"name": "A GPU"}, [lacks]),
        (["CUDAExecutionProvider"], None, [lacks]),
        (["CUDAExecutionProvider"], {"name": "A GPU"}, []),
    ):
        monkeypatch.setattr(onnxruntime.onnxruntime, "get_available_providers", lambda names=built_with: names)
        monkeypatch.setattr(onnxruntime, "gpu_state", lambda state=gpu: state)
        assert missing_for("onnxruntime", "fp16", "cuda", NO_FLAGS) == missing

    class Core:
        available_devices = ("CPU", "GPU.0", "GPU.1")

    monkeypatch.setattr(openvino, "_core", Core)
    assert missing_for("openvino", "fp16", "gpu", NO_FLAGS) == []
    assert missing_for("openvino", "fp16", "npu", NO_FLAGS) == ["a device that OpenVINO calls NPU (an Intel NPU and its driver)"]


def test_only_refusals_are_bad_input() -> None:
    with pytest.raises(BadInput, match="the graph takes other inputs"), registry.refusals_are_bad_input():
        raise Refused("the graph takes other inputs")
    with pytest.raises(RunFailed), registry.refusals_are_bad_input():
        raise RunFailed("bad allocation")


def test_profiles_are_read_without_loading_a_runtime() -> None:
    code = "import sys, instatune_deploy.devices.profile, instatune_deploy.devices.store; "
    code += "print([name for name in ('onnxruntime', 'openvino', 'torch', 'scipy') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
