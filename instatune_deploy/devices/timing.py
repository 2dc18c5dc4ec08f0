"""The measuring protocol: warm up until it settles, then windows until three in a row agree.

A window is a stretch of back-to-back runs; a loop shorter than about 100 ms measures noise. A run is never dropped for being
slow: what counts as an outlier here is a latency that the user will see.
"""

from __future__ import annotations

import gc
import resource
import statistics as stdlib_statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from instatune_deploy.config import TimingSettings
from instatune_deploy.devices.deployment import Timing
from instatune_deploy.devices.statistics import SHARES, limits, percentile, spread

ACCEPTED = 3
NS_PER_MS = 1e6


def measure(
    run_once: Callable[[], object],
    settings: TimingSettings,
    *,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
    switches: Callable[[], int] | None = None,
) -> Timing:
    """Latency of ``run_once``.

    Warm-up windows run until two in a row have medians within twice the tolerance (or ``max_warmup_windows`` are over) and
    are forgotten. Then windows are measured until the medians of the last three lie within the tolerance of each other,
    ``(max - min) / min``, and the figures are over all runs of these three. If ``max_windows`` do not bring that about, the
    figures are those of the last three and `Timing.stable` is False. The garbage collector rests meanwhile.

    ``clock_ns`` and ``switches`` (involuntary context switches so far) are replaced in tests.
    """
    take_window = partial(_window, run_once, settings, clock_ns, switches or involuntary_switches)
    collecting = gc.isenabled()
    gc.disable()
    try:
        _warm_up(take_window, settings)
        windows: list[_Window] = []
        stable = False
        while not stable and len(windows) < settings.max_windows:
            windows.append(take_window())
            stable = len(windows) >= ACCEPTED and _agree(windows[-ACCEPTED:], settings.tolerance)
    finally:
        if collecting:
            gc.enable()
    return _timing(windows, stable)


@dataclass(frozen=True)
class _Window:
    runs_ms: list[float]
    switches: int

    @property
    def median_ms(self) -> float:
        return stdlib_statistics.median(self.runs_ms)


def involuntary_switches() -> int:
    """How often so far the system took a processor from a thread of this process that wanted to go on."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def _warm_up(take_window: Callable[[], _Window], settings: TimingSettings) -> None:
    last = take_window()
    for _ in range(settings.max_warmup_windows - 1):
        window = take_window()
        if _agree([last, window], 2 * settings.tolerance):
            return
        last = window


def _window(
    run_once: Callable[[], object], settings: TimingSettings, clock_ns: Callable[[], int], switches: Callable[[], int]
) -> _Window:
    """Runs until the window is both long enough and full enough."""
    runs_ns: list[int] = []
    switches_before = switches()
    window_end = clock_ns() + settings.window_ms * NS_PER_MS
    end = 0
    while end < window_end or len(runs_ns) < settings.min_runs_per_window:
        start = clock_ns()
        run_once()
        end = clock_ns()
        runs_ns.append(end - start)
    return _Window([run_ns / NS_PER_MS for run_ns in runs_ns], switches() - switches_before)


def _agree(windows: list[_Window], tolerance: float) -> bool:
    medians = [window.median_ms for window in windows]
    return max(medians) - min(medians) <= tolerance * min(medians)


def _timing(windows: list[_Window], stable: bool) -> Timing:
    last = windows[-ACCEPTED:]
    runs_ms = [run_ms for window in last for run_ms in window.runs_ms]
    return Timing(
        p50_ms=percentile(runs_ms, SHARES["p50"]),
        p90_ms=percentile(runs_ms, SHARES["p90"]),
        p99_ms=percentile(runs_ms, SHARES["p99"]),
        mean_ms=stdlib_statistics.fmean(runs_ms),
        max_ms=max(runs_ms),
        spread=spread(runs_ms),
        count=len(runs_ms),
        windows=len(windows),
        stable=stable,
        involuntary_switches=sum(window.switches for window in last),
        limits={statistic: limits(runs_ms, share) for statistic, share in SHARES.items()},
    )
