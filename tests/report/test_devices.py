from __future__ import annotations

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


def profile(more: str = "") -> ProfileSettings:
    return parse_yaml(PROFILE + more, ProfileSettings, "some-cpu.yaml")


def test_a_device_that_is_served() -> None:
    assert device_lines([profile("tried_on: a desk\nthreads: 2\nsequence_length: 64\nstatistic: p99\n")], HOST) == [
        "this host: A CPU, 4 cores, 8 GiB, Linux 6.1",
        "",
        "some-cpu: A CPU.",
        "    served by this host: onnxruntime fp32; 2 threads, batch 1, 64 tokens, budgets mean p99",
        "    openvino bf16 is left out: this host lacks CPU flag avx512_bf16 or amx_bf16",
        "    tried on: a desk",
    ]


def test_a_device_that_is_not() -> None:
    lines = device_lines([profile("requires: {machine: [aarch64], min_cores: 8}\n")], HOST)
    assert lines[3:] == [
        "    not here: hardware profile 'some-cpu' cannot be served by this host: it needs machine type aarch64 (x86_64 here), "
        "at least 8 cores (4 here)",
        "    tried on: nothing yet",
    ]
