from __future__ import annotations

import pytest

from instatune_deploy.devices.circumstances import CpuAccount, cpu_account, others_cores, too_busy


def test_others_are_all_minus_own_over_the_clock() -> None:
    before = CpuAccount(clock_s=100.0, all_s=50.0, own_s=7.0)
    after = CpuAccount(clock_s=102.0, all_s=53.5, own_s=8.5)
    assert others_cores(before, after) == pytest.approx(1.0)  # (3.5 - 1.5) / 2


def test_others_are_never_negative() -> None:
    # the accounts tick every 10 ms: a short stretch may show less than this process used
    assert others_cores(CpuAccount(0, 0, 0), CpuAccount(1.0, 0.9, 1.0)) == 0.0
    assert others_cores(CpuAccount(5, 0, 0), CpuAccount(5, 1, 0)) == 0.0


@pytest.mark.parametrize(("others", "threads", "processors"), [(0.2, 2, 2), (1.0, 1, 2), (10.0, 4, 16)])
def test_enough_idle_processors(others: float, threads: int, processors: int) -> None:
    assert too_busy(others, threads, processors) is None


@pytest.mark.parametrize(("others", "threads", "processors"), [(0.3, 2, 2), (1.3, 1, 2), (15.0, 4, 16)])
def test_too_few_idle_processors(others: float, threads: int, processors: int) -> None:
    assert too_busy(others, threads, processors) is not None


def test_why_it_was_too_busy() -> None:
    assert too_busy(0.94, 2, 2) == "other processes used 0.9 of 2 processors while 2 threads were measured"


def test_own_work_is_counted_as_own() -> None:
    before = cpu_account()
    sum(range(300_000))
    after = cpu_account()
    assert after.own_s > before.own_s
    assert after.clock_s > before.clock_s
