"""The protocol on a clock that only moves when a run takes time."""

from __future__ import annotations

import gc
from collections.abc import Iterable

import pytest

from instatune_deploy.config import TimingSettings
from instatune_deploy.devices.timing import involuntary_switches, measure

# windows of two runs of 5 ms or more, or of more shorter ones
SETTINGS = TimingSettings(window_ms=10, min_runs_per_window=2, max_warmup_windows=4, max_windows=6, tolerance=0.05)


class Script:
    """Runs that take the given milliseconds, one after the other; then the last one for ever."""

    def __init__(self, durations_ms: Iterable[float]) -> None:
        self.left = list(durations_ms)
        self.now_ns = 0
        self.runs = 0

    def run(self) -> None:
        self.now_ns += round((self.left.pop(0) if len(self.left) > 1 else self.left[0]) * 1e6)
        self.runs += 1

    def clock_ns(self) -> int:
        return self.now_ns


def test_figures_by_hand_without_the_warm_up() -> None:
    warm_up = [40, 40, 20, 20, 10, 10, 10.5, 10.5]  # agrees at the fourth window: 5% <= 2 * 5%
    script = Script([*warm_up, 10, 10, 10, 10.4, 10.1, 10.7])
    timing = measure(script.run, SETTINGS, clock_ns=script.clock_ns)
    # medians 10, 10.2, 10.4: within 4%. Sorted: 10, 10, 10, 10.1, 10.4, 10.7
    assert timing.stable
    assert (timing.count, timing.windows, script.runs) == (6, 3, 14)
    assert timing.p50_ms == 10.1  # index ceil(2.5)
    assert timing.p90_ms == 10.7  # index ceil(4.5)
    assert timing.p99_ms == 10.7
    assert timing.mean_ms == pytest.approx(61.2 / 6)
    assert timing.max_ms == 10.7
    assert timing.spread == pytest.approx((10.4 - 10) / 10.1)  # indices ceil(3.75), ceil(1.25)
    assert timing.limits["p90"].upper_ms is None


def test_only_the_last_three_windows_count() -> None:
    warm_up = [10, 10, 10, 10]
    script = Script([*warm_up, 10, 10, 30, 30, 12, 12, 12, 12, 12, 12])
    timing = measure(script.run, SETTINGS, clock_ns=script.clock_ns)
    assert timing.stable
    assert (timing.windows, timing.count, timing.max_ms) == (5, 6, 12.0)


def test_a_slow_run_in_a_quiet_window_is_kept() -> None:
    settings = SETTINGS.model_copy(update={"min_runs_per_window": 3})
    script = Script([10] * 6 + [10, 10, 500] + [10])
    timing = measure(script.run, settings, clock_ns=script.clock_ns)
    assert timing.stable
    assert (timing.p90_ms, timing.max_ms) == (500.0, 500.0)  # index ceil(0.9 * 8) = 8


def test_drift_is_unstable() -> None:
    script = Script([10 * 1.2 ** (index // 2) for index in range(40)])  # every window 20% slower
    timing = measure(script.run, SETTINGS, clock_ns=script.clock_ns)
    assert not timing.stable
    assert timing.windows == 6
    assert timing.count == 6
    # 4 warm-up windows, 6 measured: the last three are windows 7, 8, 9
    assert timing.p50_ms == pytest.approx(10 * 1.2**8)
    assert timing.max_ms == pytest.approx(10 * 1.2**9)


def test_windows_are_long_enough_for_fast_runs() -> None:
    script = Script([0.5])
    timing = measure(script.run, SETTINGS, clock_ns=script.clock_ns)
    assert timing.count == 3 * 20  # 10 ms of 0.5 ms runs
    assert script.runs == 5 * 20  # two windows of warm-up
    assert timing.limits["p90"].upper_ms == 0.5


def test_switches_of_the_accepted_windows() -> None:
    script = Script([10])
    # one switch a run, and five more in the warm-up
    timing = measure(script.run, SETTINGS, clock_ns=script.clock_ns, switches=lambda: script.runs + 5 * (script.runs > 2))
    assert timing.involuntary_switches == 6


def test_the_garbage_collector_rests_and_comes_back() -> None:
    script = Script([10])
    seen = set()

    def run() -> None:
        seen.add(gc.isenabled())
        script.run()

    measure(run, SETTINGS, clock_ns=script.clock_ns)
    assert seen == {False}
    assert gc.isenabled()


def test_the_garbage_collector_comes_back_after_an_error() -> None:
    def fail() -> None:
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        measure(fail, SETTINGS)
    assert gc.isenabled()


def test_with_the_real_clock() -> None:
    settings = TimingSettings(window_ms=1, min_runs_per_window=3, tolerance=0.9)
    timing = measure(lambda: sum(range(1000)), settings)
    assert 0 < timing.p50_ms <= timing.p90_ms <= timing.p99_ms <= timing.max_ms
    assert timing.count >= 9
    assert involuntary_switches() >= 0
