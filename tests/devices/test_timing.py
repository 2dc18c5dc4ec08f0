"""The protocol on a clock that only moves when a run takes time or the protocol rests."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instatune_deploy.config import TimingSettings
from instatune_deploy.devices import cpus
from instatune_deploy.devices.cpus import CpuAccount
from instatune_deploy.devices.latency import Limits, Timing
from instatune_deploy.devices.timing import CALIBRATION_WINDOWS, Instruments, Reference, calibrate, involuntary_switches, measure

# windows of two runs of 5 ms or more, or of more shorter ones; those of the reference too
SETTINGS = TimingSettings(
    window_ms=10,
    min_runs_per_window=2,
    max_warmup_windows=4,
    max_windows=6,
    tolerance=0.05,
    reference_ms=10,
    max_drift=0.5,
)
WARM_UP = [10, 10, 10, 10]
FOREVER = 10**9


def next_of(values: list[float]) -> float:
    """One after the other; then the last one for ever."""
    return values.pop(0) if len(values) > 1 else values[0]


@dataclass
class Script:
    """A host with two processors: runs take the given milliseconds; others use so many processors in each window."""

    run_ms: Sequence[float] = (10,)
    reference_ms: Sequence[float] = (10,)
    others: Sequence[float] | None = (0,)
    switches: Sequence[int] = (0,)
    """Of each window, those of the warm-up too; then the last for ever."""
    now_ns: int = 0
    runs: int = 0
    rests_s: list[float] = field(default_factory=list)
    _asked: int = 0
    _switches: int = 0
    _accounts: int = 0
    _others_s: float = 0.0
    _since_ns: int = 0

    def __post_init__(self) -> None:
        self._run_ms, self._reference_ms = list(self.run_ms), list(self.reference_ms)
        self._windows = list(self.switches)
        self._others = None if self.others is None else list(self.others)

    def run(self) -> None:
        self.now_ns += round(next_of(self._run_ms) * 1e6)
        self.runs += 1

    def run_reference(self) -> None:
        self.now_ns += round(next_of(self._reference_ms) * 1e6)

    def sleep(self, seconds: float) -> None:
        self.rests_s.append(seconds)
        self.now_ns += round(seconds * 1e9)

    def account(self) -> CpuAccount:
        """Asked before and after every window: the protocol itself uses one processor meanwhile."""
        self._accounts += 1
        if self._others is not None and self._accounts % 2 == 0:
            self._others_s += next_of(self._others) * (self.now_ns - self._since_ns) / 1e9
        self._since_ns = self.now_ns
        own_s = self.now_ns / 1e9
        return CpuAccount(clock_s=own_s, all_s=None if self._others is None else own_s + self._others_s, own_s=own_s)

    def switched(self) -> int:
        """Asked before and after every window."""
        self._asked += 1
        if self._asked % 2 == 0:
            self._switches += int(next_of(self._windows))
        return self._switches

    @property
    def instruments(self) -> Instruments:
        return Instruments(
            clock_ns=lambda: self.now_ns,
            sleep=self.sleep,
            switches=self.switched,
            account=self.account,
            processors=lambda: 2,
        )

    def measure(self, rules: TimingSettings = SETTINGS, threads: int = 1) -> tuple[Timing, str | None]:
        """Without a reference."""
        return measure(self.run, rules, threads=threads, instruments=self.instruments)

    def measure_beside(
        self, nominal_ms: float | None, rules: TimingSettings = SETTINGS, rest_ms: float = 0.0
    ) -> tuple[Timing, str | None]:
        """With the reference."""
        reference = Reference(self.run_reference, nominal_ms, rest_ms)
        return measure(self.run, rules, reference=reference, instruments=self.instruments)

    def calibrate(self, rules: TimingSettings = SETTINGS) -> tuple[float | None, str | None]:
        return calibrate(self.run, rules, threads=1, instruments=self.instruments)


def twice(*values: float) -> list[float]:
    """Both runs of each window."""
    return [value for value in values for _ in range(2)]


def test_figures_by_hand_without_the_warm_up() -> None:
    warm_up = [40, 40, 20, 20, 10, 10, 10.5, 10.5]  # agrees at the fourth window: 5% <= 2 * 5%
    script = Script([*warm_up, 10, 10, 10, 10.4, 10.1, 10.7])
    timing, why = script.measure()
    # medians 10, 10.2, 10.4: within 4%. Sorted: 10, 10, 10, 10.1, 10.4, 10.7
    assert timing.stable
    assert why is None
    assert (timing.count, timing.windows, timing.thrown, script.runs) == (6, 3, 0, 14)
    assert timing.p50_ms == 10.1  # index ceil(2.5)
    assert timing.p90_ms == 10.7  # index ceil(4.5)
    assert timing.p99_ms == 10.7
    assert timing.mean_ms == pytest.approx(61.2 / 6)
    assert timing.max_ms == 10.7
    assert timing.spread == pytest.approx((10.4 - 10) / 10.1)  # indices ceil(3.75), ceil(1.25)
    assert timing.limits["p90"].upper_ms is None
    # Binomial(6, 1/2): P(B <= 0) = 1.6%, P(B <= 1) = 10.9%, P(B <= 4) = 89.1%, P(B <= 5) = 98.4%
    assert timing.limits["p50"] == Limits(10.0, 10.7)


def test_the_warm_up_ends() -> None:
    script = Script([*twice(80, 40, 20, 10), 5])  # never two alike: four windows, and no more
    timing, _ = script.measure()
    assert (timing.max_ms, script.runs) == (5.0, 8 + 6)


def test_the_warm_up_is_content_with_twice_the_tolerance() -> None:
    script = Script([*twice(10, 10.9), 10])
    script.measure()
    assert script.runs == 2 * 2 + 6
    script = Script([*twice(10, 11.1), 10])  # not these two, nor the next; but then two alike
    script.measure()
    assert script.runs == 2 * 4 + 6


def test_only_the_last_three_windows_count() -> None:
    script = Script([*WARM_UP, *twice(10, 30, 12, 12, 12)])
    timing, _ = script.measure()
    assert timing.stable
    assert (timing.windows, timing.count, timing.max_ms) == (5, 6, 12.0)


def test_a_slow_run_in_a_quiet_window_is_kept() -> None:
    settings = SETTINGS.model_copy(update={"min_runs_per_window": 3})
    timing, _ = Script([10] * 6 + [10, 10, 500] + [10]).measure(settings)
    assert timing.stable
    assert (timing.p90_ms, timing.max_ms) == (500.0, 500.0)  # index ceil(0.9 * 8) = 8


def test_drift_is_unstable() -> None:
    script = Script([10 * 1.2 ** (index // 2) for index in range(40)])  # every window 20% slower
    timing, why = script.measure()
    assert not timing.stable
    assert why == "no three windows in a row agreed within 5% (6 were measured)"
    assert (timing.windows, timing.count) == (6, 6)
    # 4 warm-up windows, 6 measured: the last three are windows 7, 8, 9
    assert timing.p50_ms == pytest.approx(10 * 1.2**8)
    assert timing.max_ms == pytest.approx(10 * 1.2**9)


def test_windows_are_long_enough_for_fast_runs() -> None:
    script = Script([0.5])
    timing, _ = script.measure()
    assert timing.count == 3 * 20  # 10 ms of 0.5 ms runs
    assert script.runs == 5 * 20  # two windows of warm-up
    assert timing.limits["p90"].upper_ms == 0.5


def test_without_a_reference_nothing_is_scaled_and_nobody_rests() -> None:
    script = Script([10])
    timing, _ = script.measure()
    assert (timing.reference_ms, timing.nominal_ms, timing.drift) == (None, None, 1.0)
    assert script.rests_s == []


def test_every_run_is_scaled_to_the_nominal_speed() -> None:
    timing, why = Script(run_ms=[12], reference_ms=[6]).measure_beside(nominal_ms=5)
    assert why is None
    assert timing.stable
    for figure in (timing.p50_ms, timing.p90_ms, timing.p99_ms, timing.mean_ms, timing.max_ms):
        assert figure == pytest.approx(10)  # 12 * 5 / 6
    assert timing.limits["p50"].lower_ms == timing.limits["p50"].upper_ms == pytest.approx(10)
    assert (timing.reference_ms, timing.nominal_ms) == (6.0, 5)
    assert timing.drift == pytest.approx(1.2)


def test_the_accepted_windows_are_scaled_by_the_median_of_the_references_around_them() -> None:
    # halfway between before and after: 10.2, 10.3, 10.1
    script = Script(run_ms=[*WARM_UP, *twice(20.4, 20.6, 20.2)], reference_ms=twice(10, 10.4, 10.2, 10))
    timing, _ = script.measure_beside(nominal_ms=10)
    assert timing.windows == 3
    assert timing.reference_ms == pytest.approx(10.2)
    assert timing.p50_ms == pytest.approx(20.4 * 10 / 10.2)
    assert timing.max_ms == pytest.approx(20.6 * 10 / 10.2)


def test_windows_must_agree_as_the_clock_gave_them() -> None:
    """A host that becomes 8% slower each time is not measured until it stands still: its references are too noisy for that."""
    speeds = [1.08**power for power in range(5)]
    middles = [(speeds[index] + speeds[index + 1]) / 2 for index in range(4)]
    runs = [*WARM_UP, *twice(*(10 * middle for middle in middles))]
    timing, _ = Script(runs, twice(*(10 * speed for speed in speeds))).measure_beside(nominal_ms=10)
    assert (timing.stable, timing.windows) == (True, 6)
    # the windows 4, 5, 6 run at the last speed; the reference stands there from the one after the fourth on
    assert timing.p50_ms == pytest.approx(10 * middles[3] / speeds[4])


def test_a_host_far_faster_than_its_first_measurement_is_not_believed() -> None:
    timing, why = Script(run_ms=[5], reference_ms=[5]).measure_beside(nominal_ms=10)
    assert not timing.stable
    assert why is not None
    assert "the host was 2.0 times faster than when its speed was first measured; measure again" in why


@given(st.floats(0.7, 1.45), st.lists(st.floats(10, 40), min_size=6, max_size=6))
def test_a_slower_host_changes_nothing(speed: float, runs_ms: list[float]) -> None:
    """A law of the scale: when runs and reference take ``speed`` times as long, the figures are the same."""

    def figures(factor: float) -> Timing:
        script = Script([factor * run_ms for run_ms in [*WARM_UP, *runs_ms]], [10 * factor])
        return script.measure_beside(10, SETTINGS.model_copy(update={"max_windows": 3}))[0]

    quiet, slow = figures(1), figures(speed)
    assert (slow.thrown, slow.count) == (0, quiet.count)
    for name in ("p50_ms", "p90_ms", "p99_ms", "mean_ms", "max_ms"):
        assert getattr(slow, name) == pytest.approx(getattr(quiet, name), rel=1e-6)
    assert slow.drift == pytest.approx(speed, rel=1e-6)


def test_a_window_in_which_the_host_changed_its_speed_is_thrown_away() -> None:
    # the reference: 10, 10, 12, 12, 12 ms; so the second window stands between 10 and 12
    script = Script(run_ms=[*WARM_UP, *twice(10, 99, 12, 12, 12)], reference_ms=twice(10, 10, 12))
    timing, why = script.measure_beside(nominal_ms=10)
    assert why is None
    assert timing.stable
    assert (timing.windows, timing.thrown, timing.count) == (5, 1, 6)
    assert timing.max_ms == pytest.approx(10)  # the last three that were kept: 12 * 10 / 12
    assert timing.reference_ms == pytest.approx(12)


@pytest.mark.parametrize(("before", "after"), [(10.0, 11.1), (11.1, 10.0)])
def test_twice_the_tolerance_is_what_a_speed_may_change(before: float, after: float) -> None:
    changed = Script(reference_ms=twice(before, after)).measure_beside(10)[0]
    assert (changed.thrown, changed.windows) == (1, 4)
    nearly = Script(reference_ms=twice(before - (before > after) * 0.2, after - (after > before) * 0.2)).measure_beside(10)[0]
    assert (nearly.thrown, nearly.windows) == (0, 3)


def test_a_host_that_is_far_too_slow() -> None:
    script = Script(run_ms=[32], reference_ms=[16])
    timing, why = script.measure_beside(nominal_ms=10)
    assert not timing.stable
    assert why == "the host was 1.6 times slower than when it is quiet (6 of 6 windows were thrown away)"
    assert (timing.windows, timing.thrown, timing.count) == (6, 6, 6)
    assert timing.p50_ms == pytest.approx(20)  # the figures are there all the same
    assert Script([30], [14.9]).measure_beside(nominal_ms=10)[1] is None  # 49% slower: still taken


def test_windows_that_others_disturbed_are_thrown_away() -> None:
    script = Script(run_ms=[*WARM_UP, *twice(10, 20, 10, 20, 10)], others=[0, 1.5, 0.2, 1.9, 0])
    timing, why = script.measure_beside(nominal_ms=10)
    assert why is None
    assert (timing.stable, timing.windows, timing.thrown, timing.max_ms) == (True, 5, 2, 10.0)
    without = Script(run_ms=[*WARM_UP, *twice(10, 20, 10, 20, 10)], others=[0, 1.5, 0.2, 1.9, 0]).measure()[0]
    assert (without.stable, without.windows, without.thrown, without.max_ms) == (True, 5, 2, 10.0)


def test_as_many_threads_as_processors_leave_none_to_others() -> None:
    script = Script(others=[0.5])
    timing, why = script.measure(threads=2)
    assert not timing.stable
    assert why == "other processes used 0.5 of 2 processors while 2 threads were measured (6 of 6 windows were thrown away)"
    assert Script(others=[0.5]).measure(threads=1)[1] is None


def test_a_system_that_does_not_tell_of_others_is_believed() -> None:
    timing, why = Script(others=None).measure(threads=2)
    assert why is None
    assert timing.thrown == 0


def test_why_when_some_were_thrown_away_and_the_rest_disagree() -> None:
    # kept are 10, 20, 40, 80, 160: enough of them, so it is they that are to blame
    script = Script([*WARM_UP, *twice(10, 20, 40, 1, 80, 160)], others=[0, 0, 0, 1.9, 0, 0])
    timing, why = script.measure()
    assert timing.thrown == 1
    assert why == "no three windows in a row agreed within 5% (6 were measured)"
    assert timing.max_ms == 160.0
    # two are too few
    script = Script(others=[0, 1.9, 0, 1.9, 1.9, 1.8])
    timing, why = script.measure()
    assert (timing.stable, timing.thrown) == (False, 4)
    assert why == "other processes used 1.8 of 2 processors while 1 thread was measured (4 of 6 windows were thrown away)"


def test_a_reference_without_nominal_watches_and_scales_nothing() -> None:
    script = Script(run_ms=[*WARM_UP, *twice(12, 99, 12, 12)], reference_ms=twice(10, 10, 12))
    timing, why = script.measure_beside(nominal_ms=None)
    assert why is None
    assert (timing.windows, timing.thrown) == (4, 1)
    assert (timing.p50_ms, timing.max_ms) == (12.0, 12.0)
    assert (timing.reference_ms, timing.nominal_ms, timing.drift) == (12.0, None, 1.0)


def test_rests_and_what_of_the_time_was_timed() -> None:
    script = Script(run_ms=[10], reference_ms=[5])
    timing, _ = script.measure_beside(nominal_ms=5, rest_ms=15)
    # before the first look at the reference, then before each window and each look after it
    assert script.rests_s == [0.015] * 7
    # two windows of warm-up, three measured, four looks at the reference
    assert timing.timed_seconds == pytest.approx((2 * 20 + 3 * 20 + 4 * 10) / 1e3)
    assert timing.seconds == pytest.approx(timing.timed_seconds + 7 * 0.015)
    unhurried = Script(run_ms=[10], reference_ms=[5])
    timing, _ = unhurried.measure_beside(nominal_ms=5)  # threads are shared: nobody is in the way
    assert unhurried.rests_s == []
    assert timing.seconds == pytest.approx(timing.timed_seconds)


def test_switches_of_the_accepted_windows() -> None:
    """Whatever the warm-up and the thrown window saw."""
    timing, _ = Script(others=[0, 1.9, 0], switches=[7, 7, 1, 5, 2, 3]).measure()
    assert (timing.thrown, timing.involuntary_switches) == (1, 1 + 2 + 3)


def test_windows_with_many_switches_are_thrown_away() -> None:
    """A short window may see 16, one of 198 ms 0.198 * 130 = 25.7; the warm-up may see any number."""
    script = Script(run_ms=[*WARM_UP, *twice(10, 99, 10, 10)], switches=[500, 500, 16, 26, 16, 0])
    timing, why = script.measure()
    assert why is None
    assert (timing.windows, timing.thrown, timing.max_ms, timing.involuntary_switches) == (4, 1, 10.0, 32)


def test_many_runs_may_see_more_switches() -> None:
    """1,000 runs of 0.01 ms: one in twenty is 50."""
    assert Script([0.01], switches=[0, 0, 50]).measure()[0].thrown == 0
    timing, why = Script([0.01], switches=[0, 0, 51]).measure()
    assert not timing.stable
    assert why == "the system took a processor away 51 times in 1000 runs (6 of 6 windows were thrown away)"


def test_the_garbage_collector_rests_and_comes_back() -> None:
    script = Script()
    seen = set()

    def run() -> None:
        seen.add(gc.isenabled())
        script.run()

    measure(run, SETTINGS, instruments=script.instruments)
    calibrate(run, SETTINGS, instruments=script.instruments)
    assert seen == {False}
    assert gc.isenabled()


def test_the_garbage_collector_stays_off_where_it_was_off() -> None:
    gc.disable()
    try:
        Script().measure()
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_the_garbage_collector_comes_back_after_an_error() -> None:
    def fail() -> None:
        raise RuntimeError("boom")

    for take in (measure, calibrate):
        with pytest.raises(RuntimeError, match="boom"):
            take(fail, SETTINGS)
        assert gc.isenabled()


def test_nominal_is_a_quarter_of_the_way_up() -> None:
    medians = [10.0 + index for index in range(CALIBRATION_WINDOWS)]
    mixed = [*medians[1::2], *medians[::2]]
    script = Script([*WARM_UP, *twice(*mixed)])
    assert script.calibrate() == (16.0, None)  # index 24 // 4 of 10, 11, ..., 33
    assert script.rests_s == []


def test_nominal_is_not_taken_from_disturbed_windows() -> None:
    medians = [10.0 + index for index in range(CALIBRATION_WINDOWS)]
    script = Script([*WARM_UP, *twice(*medians)], others=[1.9] * 4 + [0])
    assert script.calibrate() == (19.0, None)  # index 20 // 4 of 14, 15, ..., 33


def test_a_busy_host_says_no_nominal() -> None:
    half = CALIBRATION_WINDOWS // 2
    assert Script(others=[1.9] * half + [0]).calibrate() == (10.0, None)
    nominal_ms, why = Script(others=[1.9] * half + [1.5] + [0]).calibrate()
    assert nominal_ms is None
    assert why == "other processes used 1.5 of 2 processors while 1 thread was measured"


def test_with_the_real_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpus, "too_busy", lambda *_: None)
    settings = TimingSettings(window_ms=1, min_runs_per_window=3, tolerance=0.9, reference_ms=1, max_drift=FOREVER, max_windows=3)

    def work() -> int:
        return sum(range(1000))

    timing, _ = measure(work, settings, reference=Reference(work, 0.01))
    assert 0 < timing.p50_ms <= timing.p90_ms <= timing.p99_ms <= timing.max_ms
    assert timing.count >= 9
    assert timing.seconds >= timing.timed_seconds > 0
    assert involuntary_switches() >= 0
    nominal_ms, why = calibrate(work, settings)
    assert why is None
    assert nominal_ms is not None
    assert nominal_ms > 0
