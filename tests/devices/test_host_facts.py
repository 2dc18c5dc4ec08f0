from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from instatune_deploy.devices import host_facts
from instatune_deploy.devices.host_facts import cgroup_quota, parse_board, parse_cpuinfo, parse_quota, usable_cores

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
    ("text", "board"), [("Raspberry Pi 5 Model B Rev 1.0\0", "Raspberry Pi 5 Model B Rev 1.0"), ("", ""), ("\0", "")]
)
def test_board(text: str, board: str) -> None:
    assert parse_board(text) == board


@pytest.mark.parametrize(
    ("text", "cores"),
    [
        ("max 100000\n", None),
        ("200000 100000\n", 2),
        ("150000 100000\n", 1),
        ("50000 100000\n", 1),
        ("", None),
        ("-1 100000", None),
        ("200000 0", None),
        ("many cores", None),
    ],
)
def test_container_quota(text: str, cores: int | None) -> None:
    assert parse_quota(text) == cores


def test_quota_of_both_versions_of_control_groups(tmp_path: Path) -> None:
    assert cgroup_quota(tmp_path) is None
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("300000\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert cgroup_quota(tmp_path) == 3
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert cgroup_quota(tmp_path) is None


@pytest.mark.parametrize(("quota", "cores"), [(None, 4), (2, 2), (8, 4)])
def test_usable_cores_are_those_of_affinity_and_quota(quota: int | None, cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_facts, "allowed", lambda: [0, 1, 4, 5])
    monkeypatch.setattr(host_facts, "cgroup_quota", lambda: quota)
    assert usable_cores() == cores


def test_memory_is_what_another_library_says() -> None:
    assert host_facts.memory_bytes() == psutil.virtual_memory().total


def test_facts_are_json_and_need_only_the_standard_library() -> None:
    code = "import json, sys; known = set(sys.modules); from instatune_deploy.devices.host_facts import host_facts; "
    code += "facts = host_facts(); names = {name.split('.')[0] for name in set(sys.modules) - known}; "
    code += "print(json.dumps([facts, sorted(names - sys.stdlib_module_names)]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    facts, foreign = json.loads(done.stdout)
    assert foreign == ["instatune_deploy"]
    assert facts["cores"] <= (os.cpu_count() or 1)
    assert facts["cpu_flags"] == sorted(set(facts["cpu_flags"]))
