from __future__ import annotations

import os
from pathlib import Path

import pytest

from instatune_deploy.devices import cpus
from instatune_deploy.devices.cpus import CpuAccount, cpu_account, load_average, others_cores, physical_cores, too_busy

# user nice system idle iowait irq softirq steal guest guest_nice
STAT = """\
cpu  9 9 9 9 9 9 9 9 9 9
cpu0 60 20 10 4000 500 6 3 1 50 5
cpu1 1 1 1 1 1 1 1 1 1 1
cpu2 40 0 20 9 9 0 4 36 0 0
intr 12345
"""
# two packages of two cores of two threads each; their cores have the same numbers
CPUINFO = "\n".join(
    f"processor\t: {number}\nmodel name\t: A CPU: fast\nphysical id\t: {number // 4}\ncore id\t\t: {number // 2 % 2}\n"
    for number in range(8)
)
ARM = "processor\t: 0\nBogoMIPS\t: 108.00\n\nprocessor\t: 1\nBogoMIPS\t: 108.00\n\nModel\t: Raspberry Pi 5\n"


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the place of /proc, empty."""
    monkeypatch.setattr(cpus, "STAT", tmp_path / "stat")
    monkeypatch.setattr(cpus, "CPUINFO", tmp_path / "cpuinfo")
    return tmp_path


def test_others_are_all_minus_own_over_the_clock() -> None:
    before = CpuAccount(clock_s=100.0, all_s=50.0, own_s=7.0)
    after = CpuAccount(clock_s=102.0, all_s=53.5, own_s=8.5)
    assert others_cores(before, after) == pytest.approx(1.0)  # (3.5 - 1.5) / 2


def test_others_are_never_negative() -> None:
    # the accounts tick every 10 ms: a short stretch may show less than this process used
    assert others_cores(CpuAccount(0, 0, 0), CpuAccount(1.0, 0.9, 1.0)) == 0.0
    assert others_cores(CpuAccount(5, 0, 0), CpuAccount(5, 1, 0)) == 0.0


def test_others_of_a_system_that_does_not_tell() -> None:
    assert others_cores(CpuAccount(0, None, 0), CpuAccount(1, None, 1)) is None
    assert others_cores(CpuAccount(0, 1, 0), CpuAccount(1, None, 1)) is None


@pytest.mark.parametrize(("others", "threads", "processors"), [(0.2, 2, 2), (1.0, 1, 2), (10.0, 4, 16), (None, 2, 2)])
def test_enough_idle_processors(others: float | None, threads: int, processors: int) -> None:
    assert too_busy(others, threads, processors) is None


@pytest.mark.parametrize(("others", "threads", "processors"), [(0.3, 2, 2), (1.3, 1, 2), (15.0, 4, 16)])
def test_too_few_idle_processors(others: float, threads: int, processors: int) -> None:
    assert too_busy(others, threads, processors) is not None


def test_why_it_was_too_busy() -> None:
    assert too_busy(0.94, 2, 2) == "other processes used 0.9 of 2 processors while 2 threads were measured"
    assert too_busy(1.5, 1, 2) == "other processes used 1.5 of 2 processors while 1 thread was measured"


def test_busy_is_all_work_but_no_waiting(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_CLK_TCK": 100}[name])
    monkeypatch.setattr(cpus, "allowed", lambda: [0, 2])
    (proc / "stat").write_text(STAT)
    # of processors 0 and 2: 100 + 20 + 30 + 6 + 7 + 37 of 100 ticks a second; idle, iowait and the guests, who are users
    # already, are not counted
    assert cpu_account().all_s == 2.0


@pytest.mark.parametrize("text", [None, "", "cpu  1 2 3 4\n"])
def test_a_system_without_accounts(proc: Path, text: str | None) -> None:
    if text is not None:
        (proc / "stat").write_text(text)
    account = cpu_account()
    assert account.all_s is None
    assert account.own_s > 0


def test_own_work_is_counted_as_own() -> None:
    before = cpu_account()
    sum(range(300_000))
    after = cpu_account()
    assert after.own_s > before.own_s
    assert after.clock_s > before.clock_s


def test_physical_cores_are_counted_once(proc: Path) -> None:
    (proc / "cpuinfo").write_text(CPUINFO)
    assert physical_cores() == 4
    (proc / "cpuinfo").write_text(CPUINFO.partition("\n\n")[0])
    assert physical_cores() == 1


@pytest.mark.parametrize("text", [None, "", ARM])
def test_a_system_that_does_not_tell_of_cores(proc: Path, text: str | None) -> None:
    if text is not None:
        (proc / "cpuinfo").write_text(text)
    assert physical_cores() is None


def test_allowed_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {7, 2, 5}, raising=False)
    assert cpus.allowed() == [2, 5, 7]
    monkeypatch.delattr(os, "sched_getaffinity")  # macOS, Windows
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert cpus.allowed() == [0, 1, 2]
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cpus.processors() == 1


def test_load_average(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (1.234, 9, 9), raising=False)
    assert load_average() == 1.23

    def unknown() -> None:
        raise OSError("no /proc")

    monkeypatch.setattr(os, "getloadavg", unknown)
    assert load_average() is None
    monkeypatch.delattr(os, "getloadavg")
    assert load_average() is None
