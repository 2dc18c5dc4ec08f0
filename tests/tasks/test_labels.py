from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from instatune_deploy.config import Binarize, DataSettings
from instatune_deploy.errors import BadInput
from instatune_deploy.tasks.labels import encode_labels


def column(values: Any) -> pd.Series:
    series = pd.Series(values)
    series.index = range(1, len(series) + 1)  # type: ignore[assignment]
    return series


def encode(values: Any, **settings: Any) -> tuple[list[int | None], list[str]]:
    encoded, names = encode_labels({"all": column(values)}, DataSettings(reference="x", **settings))
    return encoded["all"], names


@pytest.mark.parametrize(
    ("values", "labels", "numbers", "names"),
    [
        (["good", "bad", " good "], None, [1, 0, 1], ["bad", "good"]),
        (["good", "bad"], ["good", "bad"], [0, 1], ["good", "bad"]),
        (["good", "bad"], ["good", "fair", "bad"], [0, 2], ["good", "fair", "bad"]),
        ([10, 9, 10], None, [1, 0, 1], ["9", "10"]),
        (["10", "9", "-1"], None, [2, 1, 0], ["-1", "9", "10"]),
        ([1.0, 0.0], None, [1, 0], ["0", "1"]),
        ([True, False], None, [1, 0], ["false", "true"]),
        (["TRUE", "False"], None, [1, 0], ["false", "true"]),
        ([1, 0], ["negative", "positive"], [1, 0], ["negative", "positive"]),
        ([True, False], ["negative", "positive"], [1, 0], ["negative", "positive"]),
        ([True, False], ["true", "False"], [0, 1], ["true", "False"]),
        ([1, 0], ["1", "0"], [0, 1], ["1", "0"]),
        (pd.Categorical(["b", "a"], categories=["b", "a", "c"]), None, [0, 1], ["b", "a", "c"]),
        (pd.Categorical(["b", "a"], categories=["b", "a"]), ["a", "b"], [1, 0], ["a", "b"]),
    ],
)
def test_labels(values, labels, numbers, names):
    assert encode(values, labels=labels) == (numbers, names)


@pytest.mark.parametrize(
    ("values", "settings", "message"),
    [
        (["good", "odd"], {"labels": ["good", "bad"]}, "all: row 2: label 'odd' is not one of the known labels: good, bad$"),
        ([0, 2], {"labels": ["good", "bad"]}, "all: row 2: label '2'|row 1: label '0'"),
        ([1, 2], {"labels": ["0", "1"]}, "row 2: label '2' is not one of the known labels: 0, 1"),
        (["a", "", None, "b", " "], {}, "all: 3 rows without a label: row 2, 3, 5$"),
        ([None] * 7, {}, r"all: 7 rows without a label: row 1, 2, 3, 4, 5, \.\.\.$"),
        ([0.0, float("nan")], {}, "all: 1 rows without a label: row 2$"),
        (pd.array([1, None], dtype="Int64"), {}, "all: 1 rows without a label: row 2$"),
        (["2.5", "-1"], {}, "numbers such as 2.5; two classes come from them with 'data.binarize'"),
        ([2.5, -1.0], {}, "data.binarize"),
        (["a", "b"], {"labels": ["a", "b", "a"]}, "a label stands there twice"),
        (["1", "good"], {"binarize": Binarize()}, "all: row 2: data.binarize needs a number as label, found 'good'"),
        (["1", "inf"], {"binarize": Binarize()}, "row 2: .* found 'inf'"),
        (["1", ""], {"binarize": Binarize()}, "1 rows without a label: row 2"),
        (["1", "-1"], {"binarize": Binarize(), "labels": ["a", "b", "c"]}, "makes two classes, 3 labels are given"),
    ],
)
def test_bad_labels(values, settings, message):
    with pytest.raises(BadInput, match=message):
        encode(values, **settings)


def test_binarize_leaves_out_what_is_too_near():
    values = ["-4", "-0.5", "-0.49", "0", "0.49999", "0.5", "3e0"]
    assert encode(values, binarize=Binarize(threshold=0, margin=0.5)) == (
        [0, 0, None, None, None, 1, 1],
        ["negative", "positive"],
    )


def test_binarize_at_the_threshold_and_with_names():
    numbers, names = encode([3, 2.5, 2, 4], binarize=Binarize(threshold=2.5), labels=["low", "high"])
    assert (numbers, names) == ([1, None, 0, 1], ["low", "high"])


def test_class_names_come_from_all_splits():
    columns = {"train": column(["b", "c"]), "test": column(["a"])}
    assert encode_labels(columns, DataSettings(reference="x")) == ({"train": [1, 2], "test": [0]}, ["a", "b", "c"])
