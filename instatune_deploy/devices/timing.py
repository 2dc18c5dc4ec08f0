"""The measuring protocol: warm up until it settles, then windows until three agree, a reference model between them.

A window is a stretch of back-to-back runs; a loop shorter than about 100 ms measures noise. A run is never dropped for being
slow: what counts as an outlier here is a latency that the user will see. What is thrown away are whole windows, for a reason
that can be named without looking at their figures: the host changed its speed while they ran, or others used its processors.

The reference model is always the same, so a change of its latency is a change of the host. Around every window it tells how
fast the host is just then; the runs of the accepted windows are scaled to the host's nominal speed.
"""

from __future__ import annotations

import gc
import statistics as stdlib_statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from instatune_deploy.devices import cpus
from instatune_deploy.devices.latency import SHARES, Timing
from instatune_deploy.devices.statistics import limits, percentile, spread

ACCEPTED = 3
NS_PER_MS = 1e6
CALIBRATION_WINDOWS = 24
FEW_SWITCHES = 16
SWITCHES_PER_SECOND = 130
FEW_SWITCHES_SHARE = 0.05
"""A quiet system interrupts a window of 120 ms about four times; a neighbour, tens of times."""


class Rules(Protocol):
    """The settings of the protocol (`config.TimingSettings`); lengths in milliseconds."""

    @property
    def window_ms(self) -> float: ...
    @property
    def min_runs_per_window(self) -> int: ...
    @property
    def max_warmup_windows(self) -> int: ...
    @property
    def max_windows(self) -> int: ...
    @property
    def tolerance(self) -> float: ...
    @property
    def reference_ms(self) -> float: ...
    @property
    def max_drift(self) -> float: ...


@dataclass(frozen=True)
class Reference:
    """The reference model, loaded and warm.

    nominal_ms: what it takes on this host when that is quiet (`calibrate`); None: watch the host, but scale nothing
    rest_ms:    pause between its windows and the others, where the threads of each spin on for a while
    """

    run_once: Callable[[], object]
    nominal_ms: float | None
    rest_ms: float = 0.0


def involuntary_switches() -> int:
    """How often so far the system took a processor from a thread of this process that wanted to go on."""
    try:
        import resource
    except ImportError:  # not a POSIX system
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


@dataclass(frozen=True)
class Instruments:
    """What the protocol reads; replaced in tests."""

    clock_ns: Callable[[], int] = time.perf_counter_ns
    sleep: Callable[[float], object] = time.sleep
    switches: Callable[[], int] = involuntary_switches
    account: Callable[[], cpus.CpuAccount] = cpus.cpu_account
    processors: Callable[[], int] = cpus.processors


def measure(
    run_once: Callable[[], object],
    rules: Rules,
    *,
    threads: int = 1,
    reference: Reference | None = None,
    instruments: Instruments | None = None,
) -> tuple[Timing, str | None]:
    """Latency of ``run_once``, which keeps ``threads`` processors busy, and why not to believe it (None: believe it).

    Warm-up windows run until two in a row have medians within twice the tolerance (or ``max_warmup_windows`` are over) and
    are forgotten. Then windows are measured until the medians of the last three that were kept lie within the tolerance of
    each other, ``(max - min) / min``, and the figures are over all runs of these three. If ``max_windows`` do not bring that
    about, the figures are those of the last three and `Timing.stable` is False. The garbage collector rests meanwhile.

    A window is thrown away when the reference before and after it differ by more than twice the tolerance, or took more than
    ``max_drift`` longer than nominal (or nominal that much longer than they), when other processes left fewer than
    ``threads`` processors idle, or when the system took a processor away more than now and then.
    """
    with _no_collection():
        return _Protocol(run_once, rules, threads, reference, instruments or Instruments()).measure()


def calibrate(
    run_once: Callable[[], object], rules: Rules, *, threads: int = 1, instruments: Instruments | None = None
) -> tuple[float | None, str | None]:
    """Nominal latency of the reference model on this host, in milliseconds; None, and why, when it is not quiet enough to say.

    A quarter of the way up in the medians of windows spread over some seconds: a host that is slowed down now and then is so
    caught at its own speed. The garbage collector rests meanwhile.
    """
    with _no_collection():
        return _Protocol(run_once, rules, threads, None, instruments or Instruments()).calibrate()


@contextmanager
def _no_collection() -> Iterator[None]:
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def timed_runs(
    run_once: Callable[[], object], window_ms: float, min_runs: int, clock_ns: Callable[[], int]
) -> tuple[list[float], int]:
    """Milliseconds of back-to-back runs, for ``window_ms`` and ``min_runs`` at least, and the nanoseconds of all that."""
    runs_ns: list[int] = []
    start = end = clock_ns()
    window_end = start + window_ms * NS_PER_MS
    while end < window_end or len(runs_ns) < min_runs:
        run_start = clock_ns()
        run_once()
        end = clock_ns()
        runs_ns.append(end - run_start)
    return [run_ns / NS_PER_MS for run_ns in runs_ns], end - start


@dataclass(frozen=True)
class _Window:
    runs_ms: list[float]
    switches: int
    reference_ms: float | None = None
    thrown: str | None = None

    @property
    def median_ms(self) -> float:
        return stdlib_statistics.median(self.runs_ms)


@dataclass
class _Protocol:
    run_once: Callable[[], object]
    rules: Rules
    threads: int
    reference: Reference | None
    instruments: Instruments
    timed_ns: int = 0
    windows: list[_Window] = field(default_factory=list)

    def measure(self) -> tuple[Timing, str | None]:
        start = self.instruments.clock_ns()
        self._warm_up()
        before = self._reference_ms()
        stable = False
        while not stable and len(self.windows) < self.rules.max_windows:
            account = self.instruments.account()
            window = self._window()
            after = self._reference_ms()
            others = cpus.others_cores(account, self.instruments.account())
            self.windows.append(self._judged(window, before, after, others))
            before = after
            kept = self._kept()
            stable = len(kept) >= ACCEPTED and self._agree(kept[-ACCEPTED:], self.rules.tolerance)
        timing = self._timing(stable, (self.instruments.clock_ns() - start) / 1e9)
        return timing, None if stable else self._why()

    def calibrate(self) -> tuple[float | None, str | None]:
        self._warm_up()
        medians, why = [], None
        for _ in range(CALIBRATION_WINDOWS):
            account = self.instruments.account()
            runs_ms = self._runs(self.run_once, self.rules.window_ms)
            others = cpus.others_cores(account, self.instruments.account())
            busy = cpus.too_busy(others, self.threads, self.instruments.processors())
            if busy is None:
                medians.append(stdlib_statistics.median(runs_ms))
            why = busy or why
        if len(medians) < CALIBRATION_WINDOWS / 2:
            return None, why
        return sorted(medians)[len(medians) // 4], None

    def _warm_up(self) -> None:
        last = self._window(rest=False)
        for _ in range(self.rules.max_warmup_windows - 1):
            window = self._window(rest=False)
            if self._agree([last, window], 2 * self.rules.tolerance):
                return
            last = window

    def _window(self, rest: bool = True) -> _Window:
        if rest and self.reference is not None:
            self._rest(self.reference.rest_ms)
        switches = self.instruments.switches()
        runs_ms = self._runs(self.run_once, self.rules.window_ms)
        return _Window(runs_ms, self.instruments.switches() - switches)

    def _reference_ms(self) -> float | None:
        if self.reference is None:
            return None
        self._rest(self.reference.rest_ms)
        return stdlib_statistics.median(self._runs(self.reference.run_once, self.rules.reference_ms))

    def _rest(self, rest_ms: float) -> None:
        if rest_ms:
            self.instruments.sleep(rest_ms / 1e3)

    def _runs(self, run_once: Callable[[], object], window_ms: float) -> list[float]:
        """Durations of runs until the window is both long enough and full enough."""
        runs_ms, elapsed_ns = timed_runs(run_once, window_ms, self.rules.min_runs_per_window, self.instruments.clock_ns)
        self.timed_ns += elapsed_ns
        return runs_ms

    def _judged(self, window: _Window, before: float | None, after: float | None, others: float | None) -> _Window:
        """The window with the reference around it, or marked as thrown away."""
        busy = cpus.too_busy(others, self.threads, self.instruments.processors()) or self._preempted(window)
        if self.reference is None or before is None or after is None:
            return _Window(window.runs_ms, window.switches, thrown=busy)
        reference_ms = (before + after) / 2
        nominal_ms = self.reference.nominal_ms
        factor = 1.0 if nominal_ms is None else nominal_ms / reference_ms
        thrown = busy
        if thrown is None and abs(after - before) > 2 * self.rules.tolerance * min(before, after):
            thrown = f"the host's speed changed by more than {2 * self.rules.tolerance:.0%} within a window"
        if thrown is None and factor * (1 + self.rules.max_drift) < 1:
            thrown = f"the host was {1 / factor:.1f} times slower than when it is quiet"
        if thrown is None and factor > 1 + self.rules.max_drift:
            thrown = f"the host was {factor:.1f} times faster than when its speed was first measured; measure again"
        return _Window(window.runs_ms, window.switches, reference_ms, thrown)

    @staticmethod
    def _preempted(window: _Window) -> str | None:
        """Why a window that was interrupted too often is not believed; now and then the system's own work does so too."""
        runs = len(window.runs_ms)
        if window.switches <= max(FEW_SWITCHES, SWITCHES_PER_SECOND * sum(window.runs_ms) / 1e3, FEW_SWITCHES_SHARE * runs):
            return None
        return f"the system took a processor away {window.switches} times in {runs} runs"

    def _kept(self) -> list[_Window]:
        return [window for window in self.windows if window.thrown is None]

    @staticmethod
    def _agree(windows: list[_Window], tolerance: float) -> bool:
        medians = [window.median_ms for window in windows]
        return max(medians) - min(medians) <= tolerance * min(medians)

    def _why(self) -> str:
        reasons = [window.thrown for window in self.windows if window.thrown is not None]
        if len(self._kept()) >= ACCEPTED or not reasons:
            return f"no three windows in a row agreed within {self.rules.tolerance:.0%} ({len(self.windows)} were measured)"
        return f"{reasons[-1]} ({len(reasons)} of {len(self.windows)} windows were thrown away)"

    def _timing(self, stable: bool, seconds: float) -> Timing:
        kept = self._kept()
        last = (kept if len(kept) >= ACCEPTED else self.windows)[-ACCEPTED:]
        references = [window.reference_ms for window in last if window.reference_ms is not None]
        reference_ms = stdlib_statistics.median(references) if references else None
        nominal_ms = self.reference.nominal_ms if self.reference is not None else None
        # one factor for all of them: three references are less noisy than one, and the host kept its speed or they disagreed
        factor = nominal_ms / reference_ms if nominal_ms is not None and reference_ms is not None else 1.0
        runs_ms = [run_ms * factor for window in last for run_ms in window.runs_ms]
        return Timing(
            p50_ms=percentile(runs_ms, SHARES["p50"]),
            p90_ms=percentile(runs_ms, SHARES["p90"]),
            p99_ms=percentile(runs_ms, SHARES["p99"]),
            mean_ms=stdlib_statistics.fmean(runs_ms),
            max_ms=max(runs_ms),
            spread=spread(runs_ms),
            count=len(runs_ms),
            windows=len(self.windows),
            stable=stable,
            involuntary_switches=sum(window.switches for window in last),
            limits={statistic: limits(runs_ms, share) for statistic, share in SHARES.items()},
            thrown=len(self.windows) - len(kept),
            reference_ms=reference_ms,
            nominal_ms=nominal_ms,
            seconds=round(seconds, 3),
            timed_seconds=round(self.timed_ns / 1e9, 3),
        )
