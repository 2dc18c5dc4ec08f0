from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instatune_deploy.devices.latency import RUN_FIELDS, SHARES, Limits, Timing

from .conftest import TIMING

# 5 ms on a host that is at its nominal speed when the reference takes 4 ms, and was at 5 ms
SCALED = replace(TIMING, reference_ms=5.0, nominal_ms=4.0, thrown=1, seconds=2.5, timed_seconds=2.0)
NOMINAL = st.floats(1e-3, 1e3)


def figures(timing: Timing) -> list[float]:
    """Everything in it that is a latency of the graph."""
    bounds = [bound for item in timing.limits.values() for bound in (item.lower_ms, item.upper_ms) if bound is not None]
    return [timing.p50_ms, timing.p90_ms, timing.p99_ms, timing.mean_ms, timing.max_ms, *bounds]


def test_statistics_by_name() -> None:
    assert [TIMING.statistic_ms(name) for name in SHARES] == [5.0, 6.0, 7.0]
    assert TIMING.upper_ms("p90") == 6.3
    assert TIMING.upper_ms("p99") == math.inf
    with pytest.raises(KeyError):
        TIMING.statistic_ms("p95")


def test_drift_is_the_reference_over_its_nominal() -> None:
    assert SCALED.drift == 1.25
    assert TIMING.drift == 1.0
    assert replace(SCALED, nominal_ms=None).drift == 1.0


def test_json_both_ways() -> None:
    for timing in (TIMING, SCALED):
        assert Timing.from_json(json.loads(json.dumps(timing.to_json(), allow_nan=False))) == timing


def test_json_with_too_much_or_too_little() -> None:
    value = SCALED.to_json()
    with pytest.raises(TypeError, match="unheard"):
        Timing.from_json({**value, "unheard": 1})
    del value["p50_ms"]
    with pytest.raises(TypeError, match="p50_ms"):
        Timing.from_json(value)


def test_json_from_before_there_was_a_reference() -> None:
    value = TIMING.to_json()
    for name in ("thrown", "reference_ms", "nominal_ms", "seconds", "timed_seconds"):
        del value[name]
    assert Timing.from_json(value) == TIMING


def test_another_nominal_by_hand() -> None:
    moved = SCALED.on_nominal(8.0)
    assert (moved.p50_ms, moved.p90_ms, moved.p99_ms, moved.mean_ms, moved.max_ms) == (10.0, 12.0, 14.0, 10.5, 17.0)
    assert moved.limits == {"p50": Limits(9.8, 10.2), "p90": Limits(11.6, 12.6), "p99": Limits(13.0, None)}
    assert moved.nominal_ms == 8.0
    # what is no latency of the graph stays
    kept = [name for name in SCALED.to_json() if name not in RUN_FIELDS | {"limits", "nominal_ms"}]
    assert {name: getattr(moved, name) for name in kept} == {name: getattr(SCALED, name) for name in kept}


def test_without_a_nominal_nothing_moves() -> None:
    assert TIMING.on_nominal(8.0) is TIMING
    watched = replace(TIMING, reference_ms=5.0)
    assert watched.on_nominal(8.0) is watched
    assert SCALED.on_nominal(4.0) is SCALED


@given(NOMINAL, NOMINAL)
def test_the_way_to_a_nominal_does_not_matter(between: float, nominal: float) -> None:
    direct, roundabout = SCALED.on_nominal(nominal), SCALED.on_nominal(between).on_nominal(nominal)
    assert figures(roundabout) == pytest.approx(figures(direct), rel=1e-12)
    assert roundabout.nominal_ms == direct.nominal_ms == nominal


@given(NOMINAL)
def test_figures_are_proportional_to_the_nominal(nominal: float) -> None:
    moved = SCALED.on_nominal(nominal)
    assert figures(moved) == pytest.approx([figure * nominal / 4.0 for figure in figures(SCALED)], rel=1e-12)
    assert (moved.spread, moved.count, moved.stable) == (SCALED.spread, SCALED.count, SCALED.stable)
