from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from instatune_deploy.devices.host_state import (
    Process,
    busiest_processes,
    governors,
    host_state,
    parse_throttled,
    steal_share,
    throttled,
    turbo,
)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_governors(tmp_path: Path) -> None:
    assert governors(tmp_path) == ()
    for index, name in enumerate(["powersave", "performance", "powersave"]):
        write(tmp_path / f"cpu{index}" / "cpufreq" / "scaling_governor", f"{name}\n")
    assert governors(tmp_path) == ("performance", "powersave")


@pytest.mark.parametrize(
    ("name", "text", "on"),
    [
        ("intel_pstate/no_turbo", "0\n", True),
        ("intel_pstate/no_turbo", "1\n", False),
        ("cpufreq/boost", "1\n", True),
        ("cpufreq/boost", "0\n", False),
        ("cpufreq/other", "1\n", None),
    ],
)
def test_turbo(name: str, text: str, on: bool | None, tmp_path: Path) -> None:
    write(tmp_path / name, text)
    assert turbo(tmp_path) is on


@pytest.mark.parametrize(
    ("text", "bits"), [("throttled=0x50005\n", 0x50005), ("throttled=0x0", 0), ("VCHI failed", None), ("throttled=", None)]
)
def test_parse_throttled(text: str, bits: int | None) -> None:
    assert parse_throttled(text) == bits


def test_a_raspberry_pi_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert throttled() is None
    program = tmp_path / "vcgencmd"
    program.write_text('#!/bin/sh\n[ "$1" = get_throttled ] && echo throttled=0x50000\n')
    program.chmod(0o755)
    assert throttled() == 0x50000


def test_steal() -> None:
    """Of 200 ticks that passed, 50 were stolen."""
    before = [100, 0, 50, 800, 0, 0, 0, 10]
    after = [150, 0, 50, 900, 0, 0, 0, 60]
    assert steal_share(before, after) == 0.25
    assert steal_share(before, before) == 0.0
    assert steal_share(None, after) is None


def test_busiest_processes_over_two_seconds() -> None:
    before = {(1, 0.0): ("init", 5.0), (2, 0.0): ("old", 1.0), (3, 0.0): ("idle", 9.0), (4, 0.0): ("gone", 3.0)}
    after = {
        (1, 0.0): ("init", 5.5),
        (2, 0.0): ("old", 2.8),
        (3, 0.0): ("idle", 9.02),
        (5, 0.0): ("new", 1.0),
        (2, 9.0): ("x", 0.4),
    }
    assert busiest_processes(before, after, 2.0) == (Process("old", 2, 0.9), Process("new", 5, 0.5), Process("init", 1, 0.25))


def test_this_host(tmp_path: Path) -> None:
    found = host_state(tmp_path / "not" / "yet", watch_s=0.05)
    assert found.processors == psutil.cpu_count()
    assert 1 <= found.allowed <= found.processors
    assert found.disk_free_bytes > 0
    assert found.work.endswith("not/yet")
    assert not (tmp_path / "not").exists()
    assert psutil.Process().pid not in {process.pid for process in found.busiest}
