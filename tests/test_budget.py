from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instatune_deploy.budget import Budget, parse_budget, parse_budgets
from instatune_deploy.errors import BadInput


@pytest.mark.parametrize(
    ("text", "limit_ms", "statistic", "shown"),
    [
        ("20ms", 20, None, "20ms"),
        (" 20 ms ", 20, None, "20ms"),
        ("1.5s", 1500, None, "1500ms"),
        ("500us", 0.5, None, "0.5ms"),
        ("p90:20ms", 20, "p90", "p90:20ms"),
        ("p50:0.25s", 250, "p50", "p50:250ms"),
        ("p99:7.5ms", 7.5, "p99", "p99:7.5ms"),
    ],
)
def test_good_budgets(text: str, limit_ms: float, statistic: str | None, shown: str) -> None:
    budget = parse_budget(text)
    assert budget.limit_ms == pytest.approx(limit_ms, rel=1e-12)
    assert budget.statistic == statistic
    assert str(budget) == shown


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("20", "the unit is missing; did you mean '20ms'?"),
        ("p90:20", "the unit is missing; did you mean 'p90:20ms'?"),
        ("20s20", "a budget is a latency with its unit, such as 20ms"),
        ("-5ms", "a latency must be more than 0"),
        ("0ms", "a latency must be more than 0"),
        ("9" * 400 + "ms", "that is more than any latency"),
        ("0.0s", "a latency must be more than 0"),
        ("abc", "a budget is a latency with its unit"),
        ("", "a budget is a latency with its unit"),
        ("ms", "a budget is a latency with its unit"),
        ("nan ms", "a budget is a latency with its unit"),
        ("1e3ms", "a budget is a latency with its unit"),
        ("20MB", "'MB' is no unit of time (us, ms, s); a size is written size:20MB"),
        ("size:20ms", "'ms' is no unit of size (B, kB, MB, GB, KiB, MiB, GiB)"),
        ("memory:20ms", "'ms' is no unit of memory (B, kB, MB, GB, KiB, MiB, GiB)"),
        ("size:30", "the unit is missing; did you mean 'size:30MB'?"),
        ("size:0MB", "a size must be more than 0"),
        ("macs:2GB", "'GB' is no unit of number of MACs (K, M, G, T)"),
        ("macs:-2", "a number of MACs must be more than 0"),
        ("accuracy:85", "an accuracy is at most 1; did you mean 'accuracy:85%'?"),
        ("accuracy:1.5", "an accuracy is at most 1; did you mean 'accuracy:1.5%'?"),
        ("accuracy:150%", "an accuracy is at most 1"),
        ("accuracy:0", "an accuracy must be more than 0"),
        ("accuracy:0.8ms", "'ms' is no unit of accuracy (%)"),
        ("20 min", "'min' is no unit of time"),
        ("p95:20ms", "'p95' is no latency statistic (p50, p90, p99)"),
        ("energy:200J", "'energy' is no latency statistic (p50, p90, p99), and not size, memory, macs or accuracy"),
        (":20ms", "'' is no latency statistic"),
    ],
)
def test_bad_budgets(text: str, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_budget(text)
    assert caught.value.message.startswith(f"budget '{text}': ")
    assert message in caught.value.message
    assert "\n" not in caught.value.message


@given(st.integers(1, 999_999), st.sampled_from([None, "p50", "p90", "p99"]))
def test_a_budget_reads_itself(limit_ms: int, statistic: str | None) -> None:
    budget = Budget(limit_ms / 10, statistic, size_bytes=limit_ms * 100, macs=limit_ms * 1e5, accuracy=0.5)  # type: ignore[arg-type]
    again = parse_budgets([str(budget)])
    assert again is not None
    assert (again.statistic, again.accuracy) == (statistic, 0.5)
    for name in ("limit_ms", "size_bytes", "macs"):
        assert getattr(again, name) == pytest.approx(getattr(budget, name), rel=1e-5)


@pytest.mark.parametrize(
    ("text", "budget", "shown"),
    [
        ("size:30MB", Budget(size_bytes=30e6), "size:30MB"),
        ("memory:200MB", Budget(memory_bytes=200e6), "memory:200MB"),
        ("size: 1 MiB", None, None),
        ("size:1MiB", Budget(size_bytes=2**20), "size:1.04858MB"),
        ("macs:2G", Budget(macs=2e9), "macs:2G"),
        ("macs:1500000", Budget(macs=1.5e6), "macs:0.0015G"),
        ("accuracy:0.85", Budget(accuracy=0.85), "accuracy:0.85"),
        ("accuracy:85%", Budget(accuracy=0.85), "accuracy:0.85"),
    ],
)
def test_other_budgets(text: str, budget: Budget | None, shown: str | None) -> None:
    if budget is None:
        with pytest.raises(BadInput):
            parse_budget(text)
    else:
        assert parse_budget(text) == budget
        assert str(parse_budget(text)) == shown


@given(st.integers(1, 1000))
def test_a_percentage_is_what_it_says(tenths: int) -> None:
    """So many of 1000 rows are right: that is enough, and no more is asked for."""
    assert parse_budget(f"accuracy:{tenths / 10:g}%") == Budget(accuracy=tenths / 1000)


def test_several_at_once() -> None:
    together = Budget(20, "p90", size_bytes=30e6, memory_bytes=2e8, accuracy=0.8)
    assert parse_budgets(["p90:20ms", "size:30MB", "memory:0.2GB", "accuracy:0.8"]) == together
    assert parse_budgets(["p90:20ms, size:30MB", "accuracy:80%", "p90:0.02s,memory:200MB"]) == together
    assert str(together) == "p90:20ms,size:30MB,memory:200MB,accuracy:0.8"
    assert parse_budgets([]) is None


def test_several_percentiles_at_once() -> None:
    both = parse_budgets(["p50:10ms,p99:30ms", "size:1MB"])
    assert both == Budget(10, "p50", size_bytes=1e6, also_ms=(("p99", 30),))
    assert str(both) == "p50:10ms,p99:30ms,size:1MB"
    assert both.latencies_ms("p90") == {"p50": 10, "p99": 30}
    # the profile's own percentile is the first, wherever it stands
    own = parse_budgets(["p99:30ms", "20ms"])
    assert own == Budget(20, None, also_ms=(("p99", 30),))
    assert own.latencies_ms("p90") == {"p90": 20, "p99": 30}
    assert own.latencies_ms("p99") == {"p99": 20}  # one thing after all: the stricter counts
    assert Budget(size_bytes=1).latencies_ms("p90") == {}


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["20ms", "10ms"], "budgets '20ms' and '10ms' both limit the latency: give one of them"),
        (["p50:10ms, p50:20ms"], "budgets 'p50:10ms' and 'p50:20ms' both limit the latency"),
        (["size:1MB", "20ms", "size:2MB"], "budgets 'size:1MB' and 'size:2MB' both limit the size"),
        (["20ms,"], "budget '': a budget is a latency"),
    ],
)
def test_budgets_that_cannot_be_kept_together(texts: list[str], message: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_budgets(texts)
    assert message in caught.value.message


@given(st.text(max_size=12))
def test_any_text_is_a_budget_or_one_clear_line(text: str) -> None:
    try:
        said = ""
        assert str(parse_budget(text))
    except BadInput as error:
        said = error.message
    assert said == "" or said.startswith(f"budget '{text}': ")
