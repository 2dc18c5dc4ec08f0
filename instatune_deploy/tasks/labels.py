"""From what a label column says (words, numbers, true and false, a rating) to class numbers and class names."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from instatune_deploy.config import Binarize, DataSettings
from instatune_deploy.errors import BadInput

if TYPE_CHECKING:
    import pandas as pd

_INTEGER = re.compile(r"[+-]?\d+")
_TRUTH = {"false": 0, "true": 1}


def encode_labels(columns: Mapping[str, pd.Series], settings: DataSettings) -> tuple[dict[str, list[int | None]], list[str]]:
    """Class numbers for the label columns of all splits, and the class names in class order.

    Columns are indexed by row number. ``None`` marks the rows that ``settings.binarize`` leaves out. Class names are
    ``settings.labels``, else those the data comes with, else the sorted values. Integer and true/false labels may be *named* by
    ``settings.labels``: 0 is the first. ``BadInput`` names split, row and value.
    """
    present: dict[str, list[str]] = {}
    for split, column in columns.items():
        present[split] = ["" if missing else _word(value) for value, missing in zip(column, column.isna(), strict=True)]
        refuse_rows([word == "" for word in present[split]], column, f"{split}: %d rows without a label")
    if settings.binarize is not None:
        return _binarized(present, columns, settings.binarize), _binary_names(settings.labels)
    known = {value for values in present.values() for value in values}
    names = settings.labels or _given_names(columns) or _sorted_names(known)
    if len(set(names)) < len(names):
        raise BadInput("data.labels: a label stands there twice")
    classes = _classes(known, names)
    encoded: dict[str, list[int | None]] = {split: [] for split in present}
    for split, values in present.items():
        for row, value in zip(columns[split].index, values, strict=True):
            if value not in classes:
                raise BadInput(f"data: {split}: row {row}: label '{value}' is not one of the known labels: {', '.join(names)}")
            encoded[split].append(classes[value])
    return encoded, names


def refuse_rows(wrong: Sequence[bool], column: pd.Series, problem: str) -> None:
    """``BadInput`` when any row is ``wrong``: ``problem`` (with ``%d`` for the count) and the first row numbers."""
    bad = [row for row, is_wrong in zip(column.index, wrong, strict=True) if is_wrong]
    if bad:
        more = ", ..." if len(bad) > 5 else ""
        raise BadInput(f"data: {problem % len(bad)}: row {', '.join(str(row) for row in bad[:5])}{more}")


def _word(value: Any) -> str:
    """The one spelling of a label; empty when there is none."""
    text = str(value).strip()
    if text.lower() in _TRUTH:
        return text.lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # integers beside a missing value are read as floats
    return text


def _given_names(columns: Mapping[str, pd.Series]) -> list[str] | None:
    for column in columns.values():
        if column.dtype == "category":
            return [str(name) for name in column.cat.categories]
    return None


def _sorted_names(known: set[str]) -> list[str]:
    if all(_INTEGER.fullmatch(value) for value in known):
        return sorted(known, key=int)
    fractions = [value for value in known if _number(value) is not None and not _INTEGER.fullmatch(value)]
    if fractions and all(_number(value) is not None for value in known):
        raise BadInput(f"data: the labels are numbers such as {min(fractions)}; two classes come from them with 'data.binarize'")
    return sorted(known)


def _classes(known: set[str], names: list[str]) -> dict[str, int]:
    """Class number by label word. Names that are words may name integers 0, 1, ... or false and true."""
    by_name = {_word(name): number for number, name in enumerate(names)}
    if known <= set(by_name) or any(_INTEGER.fullmatch(name) for name in by_name):
        return by_name
    positions = {str(number): number for number in range(len(names))}
    if known <= set(positions):
        return positions
    return _TRUTH if len(names) == 2 and known <= set(_TRUTH) else by_name


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _binary_names(labels: list[str] | None) -> list[str]:
    if labels is not None and len(labels) != 2:
        raise BadInput(f"data.labels: data.binarize makes two classes, {len(labels)} labels are given")
    return labels or ["negative", "positive"]


def _binarized(
    present: Mapping[str, list[str]], columns: Mapping[str, pd.Series], settings: Binarize
) -> dict[str, list[int | None]]:
    encoded: dict[str, list[int | None]] = {}
    for split, values in present.items():
        encoded[split] = []
        for row, value in zip(columns[split].index, values, strict=True):
            number = _number(value)
            if number is None:
                raise BadInput(f"data: {split}: row {row}: data.binarize needs a number as label, found '{value}'")
            distance = abs(number - settings.threshold)
            left_out = distance < settings.margin or distance == 0
            encoded[split].append(None if left_out else int(number > settings.threshold))
    return encoded
