from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instatune_deploy.budget import Budget, parse_budget
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
        ("9" * 400 + "ms", "that is longer than any latency"),
        ("0.0s", "a latency must be more than 0"),
        ("abc", "a budget is a latency with its unit"),
        ("", "a budget is a latency with its unit"),
        ("ms", "a budget is a latency with its unit"),
        ("nan ms", "a budget is a latency with its unit"),
        ("1e3ms", "a budget is a latency with its unit"),
        ("20MB", "'MB' is no unit of time (us, ms, s)"),
        ("size:30MB", "'MB' is no unit of time"),
        ("20 min", "'min' is no unit of time"),
        ("p95:20ms", "'p95' is no latency statistic (p50, p90, p99)"),
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
    budget = Budget(limit_ms / 10, statistic)  # type: ignore[arg-type]
    assert parse_budget(str(budget)).statistic == statistic
    assert parse_budget(str(budget)).limit_ms == pytest.approx(budget.limit_ms, rel=1e-5)


@given(st.text(max_size=12))
def test_any_text_is_a_budget_or_one_clear_line(text: str) -> None:
    try:
        said = ""
        assert parse_budget(text).limit_ms > 0
    except BadInput as error:
        said = error.message
    assert said == "" or said.startswith(f"budget '{text}': ")
