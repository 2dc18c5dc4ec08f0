from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

from instatune_deploy.config import ProfileSettings
from instatune_deploy.devices.host import Host
from instatune_deploy.report.devices import device_lines
from instatune_deploy.yamlfile import parse_yaml

HOST = Host("x86_64", "A CPU", frozenset({"avx2"}), cores=4, memory_bytes=8 << 30, os="Linux 6.1")
PROFILE = """\
name: some-cpu
description: A CPU.
runs:
  - runtime: openvino
    precision: bf16
    requires: {any_cpu_flag: [avx512_bf16, amx_bf16]}
  - runtime: onnxruntime
"""
GPU = """\
name: some-gpu
description: A GPU.
runs:
  - {runtime: onnxruntime, provider: cuda}
  - {runtime: onnxruntime, provider: cuda, precision: fp16}
"""


def profile(more: str = "", text: str = PROFILE) -> ProfileSettings:
    return parse_yaml(text + more, ProfileSettings, "some-cpu.yaml")


def test_a_device_that_matches() -> None:
    assert device_lines([profile("tried_on: a desk\nthreads: [1, 2]\nsequence_length: 64\nstatistic: p99\n")], HOST) == [
        "this host: A CPU, 4 cores, 8 GiB, Linux 6.1",
        "",
        "some-cpu: A CPU.",
        "    runs here  onnxruntime fp32, 1 thread",
        "               onnxruntime fp32, 2 threads",
        "    left out   openvino bf16 needs CPU flag avx512_bf16 or amx_bf16",
        "    measured   batch 1, 64 tokens, budgets mean p99",
        "    tried on   a desk",
    ]


def test_a_device_that_does_not() -> None:
    lines = device_lines([profile("requires: {machine: [aarch64], min_cores: 8}\n")], HOST)
    assert lines[2:] == [
        "some-cpu: A CPU.",
        "    not here   it needs machine type aarch64 (x86_64 here)",
        "               it needs at least 8 cores (4 here)",
        "    tried on   nothing yet",
    ]


def test_runs_that_lack_the_same_share_a_line() -> None:
    lines = device_lines([profile(text=GPU)], HOST)
    assert lines[3].startswith(
        "    not here   onnxruntime cuda fp32, onnxruntime cuda fp16 need ONNX Runtime with its CUDAExecution"
    )
    assert lines[4:] == ["    tried on   nothing yet"]


def test_all_reasons_are_told() -> None:
    lines = device_lines([profile("threads: 5\n")], HOST)
    assert lines[3].startswith("    not here   it runs 5 threads, and there are 4 cores")
    assert lines[4] == "               openvino bf16 needs CPU flag avx512_bf16 or amx_bf16"


def test_those_that_match_come_first() -> None:
    first = profile("requires: {machine: [aarch64]}\n")
    second = first.model_copy(update={"name": "other-cpu", "requires": profile().requires})
    names = [line.partition(":")[0] for line in device_lines([first, second], HOST) if line.endswith(": A CPU.")]
    assert names == ["other-cpu", "some-cpu"]


def test_the_board_and_what_is_not_told() -> None:
    assert device_lines([], replace(HOST, board="Raspberry Pi 5", cpu_model="Raspberry Pi 5", memory_bytes=0)) == [
        "this host: Raspberry Pi 5, 4 cores, Linux 6.1"
    ]
    assert device_lines([], replace(HOST, cpu_model="", cores=1)) == ["this host: x86_64, 1 core, 8 GiB, Linux 6.1"]


def test_no_runtime_is_loaded_for_a_profile_that_cannot_match() -> None:
    code = """if True:
        import sys
        from instatune_deploy.devices.host import Host
        from instatune_deploy.devices.profile import load_profile
        from instatune_deploy.report.devices import device_lines
        host = Host("riscv64", "", frozenset(), 4, 0, "Linux 6.1")
        names = ["intel-igpu", "intel-npu", "xeon-cpu", "raspberry-pi", "generic-cpu"]
        device_lines([load_profile(name) for name in names], host)
        print([name for name in ("openvino", "onnxruntime", "torch") if name in sys.modules])
    """
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
