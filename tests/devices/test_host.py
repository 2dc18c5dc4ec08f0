from __future__ import annotations

import json
from dataclasses import replace

import pytest

from instatune_deploy.devices.host import Host, parse_cpuinfo, parse_quota, this_host

X86 = """processor\t: 0
model name\t: AMD EPYC
flags\t\t: fpu avx2 fma

processor\t: 1
model name\t: another
flags\t\t: fpu
"""
ARM = """processor\t: 0
Features\t: fp asimd bf16
CPU implementer\t: 0x41
CPU part\t: 0xd0b
"""


def test_cpuinfo_of_x86_takes_the_first_processor() -> None:
    assert parse_cpuinfo(X86) == ("AMD EPYC", frozenset({"fpu", "avx2", "fma"}))


def test_cpuinfo_of_arm_says_features() -> None:
    assert parse_cpuinfo(ARM) == ("ARM implementer 0x41 part 0xd0b", frozenset({"fp", "asimd", "bf16"}))
    assert parse_cpuinfo(ARM + "Model\t: Raspberry Pi 5\n")[0] == "Raspberry Pi 5"


def test_cpuinfo_that_is_not_there() -> None:
    assert parse_cpuinfo("") == ("", frozenset())


@pytest.mark.parametrize(
    ("text", "cores"), [("max 100000\n", None), ("200000 100000\n", 2), ("150000 100000\n", 1), ("50000 100000\n", 1), ("", None)]
)
def test_container_quota(text: str, cores: int | None) -> None:
    assert parse_quota(text) == cores


def test_fingerprint_changes_with_what_decides_latency_and_nothing_else(host: Host) -> None:
    same = [
        replace(host, memory_bytes=1),
        replace(host, os="Linux 6.2"),
        replace(host, cpu_flags=frozenset(["fma", "avx2", "sse2"])),
    ]
    other = [replace(host, cores=2), replace(host, machine="aarch64"), replace(host, cpu_model="B")]
    other.append(replace(host, cpu_flags=host.cpu_flags | {"avx512f"}))
    assert {item.fingerprint for item in same} == {host.fingerprint}
    assert len({item.fingerprint for item in [host, *other]}) == 5


def test_describe_is_json_with_the_flags_of_arithmetic(host: Host) -> None:
    described = json.loads(json.dumps(host.describe()))
    assert described["cpu_flags"] == ["avx2", "fma"]
    assert described["fingerprint"] == host.fingerprint
    assert described["cores"] == 4


def test_this_host_is_plausible() -> None:
    host = this_host()
    assert host.cores >= 1
    assert host.memory_bytes > 1 << 28
    assert host is this_host()
