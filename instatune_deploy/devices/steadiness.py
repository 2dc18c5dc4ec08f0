"""How steady timings are on this host just now: windows of one small model, and how well they agree."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from instatune_deploy.devices.reference import HIDDEN, INPUT, TOKENS, write_reference
from instatune_deploy.devices.runs import Run
from instatune_deploy.devices.runtimes.modules import open_run
from instatune_deploy.devices.timing import timed_runs

WINDOWS, WINDOW_MS, REST_MS = 12, 100.0, 15.0
WARM_UP = 2
TOLERANCE = 0.05
"""Three windows in a row are believed when they agree this well: the protocol's own default (`config.TimingSettings`)."""


@dataclass(frozen=True)
class Steadiness:
    """Of one run.

    median_ms: of all windows' medians
    spread:    of the windows' medians, (largest - smallest) / smallest
    agreeing:  share of all three windows in a row that agree within `TOLERANCE`
    windows:   that were timed
    """

    run: str
    median_ms: float
    spread: float
    agreeing: float
    windows: int


def judge(run: str, medians_ms: list[float]) -> Steadiness:
    """From the medians of at least three windows, in order."""
    triples = [medians_ms[index : index + 3] for index in range(len(medians_ms) - 2)]
    agreeing = sum(_spread(triple) <= TOLERANCE for triple in triples)
    return Steadiness(run, statistics.median(medians_ms), _spread(medians_ms), agreeing / len(triples), len(medians_ms))


def steadiness(cores: int, runtime: str = "onnxruntime") -> tuple[Steadiness, ...]:
    """Of the reference model, with one thread and with ``cores``; about a second and a half each.

    ``base.Refused`` when the runtime is not there or cannot run it.
    """
    found = []
    with tempfile.TemporaryDirectory() as folder:
        path = write_reference(Path(folder))
        inputs = {INPUT: np.random.default_rng(1).standard_normal((TOKENS, HIDDEN), dtype=np.float32)}
        for threads in sorted({1, cores}):
            run = Run(runtime, "fp32", threads)
            with closing(open_run(path, run)) as session:
                found.append(judge(str(run), window_medians(session.bind(inputs))))
    return tuple(found)


def window_medians(
    run_once: Callable[[], object],
    clock_ns: Callable[[], int] = time.perf_counter_ns,
    sleep: Callable[[float], object] = time.sleep,
) -> list[float]:
    """Medians, in milliseconds, of `WINDOWS` windows of back-to-back runs, after some that warm up."""
    medians = []
    for _ in range(WARM_UP + WINDOWS):
        runs_ms, _ = timed_runs(run_once, WINDOW_MS, 1, clock_ns)
        medians.append(statistics.median(runs_ms))
        sleep(REST_MS / 1e3)
    return medians[WARM_UP:]


def _spread(values: list[float]) -> float:
    return (max(values) - min(values)) / min(values)
