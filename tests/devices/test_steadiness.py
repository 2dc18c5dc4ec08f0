from __future__ import annotations

import itertools

import pytest

from instatune_deploy.devices.runtimes.base import Refused
from instatune_deploy.devices.steadiness import (
    REST_MS,
    WARM_UP,
    WINDOW_MS,
    WINDOWS,
    Steadiness,
    judge,
    steadiness,
    window_medians,
)


def test_judge_by_hand() -> None:
    """Of the triples 10-10.2-10.4, 10.2-10.4-12 and 10.4-12-12 only the first lies within 5%."""
    assert judge("a run", [10.0, 10.2, 10.4, 12.0, 12.0]) == Steadiness(
        "a run", 10.4, pytest.approx(0.2), pytest.approx(1 / 3), 5
    )


def test_windows_of_a_clock_that_only_moves_when_told() -> None:
    now_ns = 0
    slept: list[float] = []
    # the first windows are the warm-up and take longer; then every other run takes 12 ms instead of 10
    durations = itertools.chain([50.0] * 2 * WARM_UP, itertools.cycle([10.0, 10.0, 12.0]))

    def run_once() -> None:
        nonlocal now_ns
        now_ns += int(next(durations) * 1e6)

    medians = window_medians(run_once, lambda: now_ns, slept.append)
    assert WINDOW_MS == 100.0
    assert medians == [10.0] * WINDOWS
    assert slept == [REST_MS / 1e3] * (WARM_UP + WINDOWS)


def test_the_reference_model_with_one_thread_and_all() -> None:
    found = steadiness(1)
    assert [item.run for item in found] == ["onnxruntime fp32, 1 thread"]
    assert found[0].windows == WINDOWS
    assert found[0].median_ms > 0


def test_a_runtime_that_is_not_there() -> None:
    with pytest.raises(Refused, match="unknown runtime 'tensorflow'"):
        steadiness(1, "tensorflow")
