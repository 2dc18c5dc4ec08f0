"""The task text classification: labelled texts in three fixed splits, and accuracy as the metric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from instatune_deploy.config import DataSettings
from instatune_deploy.digests import digest
from instatune_deploy.errors import BadInput
from instatune_deploy.tasks.labels import refuse_rows
from instatune_deploy.tasks.metrics import accuracy
from instatune_deploy.tasks.splits import labelled_splits, split_rows
from instatune_deploy.tasks.tables import Split, read_splits
from instatune_deploy.tasks.text_inputs import length_batches, load_tokenizer, pad, tokenize

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TextData", "accuracy", "length_batches", "load_rows", "load_tokenizer", "pad", "split_rows", "tokenize"]


@dataclass(frozen=True, eq=False)
class TextData:
    """Texts and class numbers (int64, ``(rows,)``) of each split. ``key`` is a digest of all of it: equal keys, equal data."""

    texts: Mapping[Split, list[str]]
    labels: Mapping[Split, npt.NDArray[np.int64]]
    label_names: list[str]
    key: str


def load_rows(settings: DataSettings) -> TextData:
    """Read, check, label and split the rows that ``settings`` describe; the same rows and settings give the same ``TextData``.

    Splits that the data comes with are used whole; missing ones are drawn from its training rows with ``settings.split``.
    ``BadInput`` names split, row and value.
    """
    if settings.text == settings.label:
        raise BadInput(f"data: text and label are the same column '{settings.text}'")
    tables = read_splits(settings)
    for split, table in tables.items():
        _check_texts(table[settings.text], split)
    rows = labelled_splits(
        {split: list(table[settings.text]) for split, table in tables.items()},
        {split: table[settings.label] for split, table in tables.items()},
        settings,
    )
    labels = {split: numbers.tolist() for split, numbers in rows.labels.items()}
    key = digest({"texts": rows.rows, "labels": labels, "label_names": rows.label_names})
    return TextData(rows.rows, rows.labels, rows.label_names, key)


def _check_texts(column: pd.Series, split: str) -> None:
    missing = column.isna()
    for row, text in column[~missing].items():
        if not isinstance(text, str):
            raise BadInput(f"data: {split}: row {row}: expected a text, found {text!r:.40}")
    refuse_rows(
        [bool(gone) or not text.strip() for text, gone in zip(column, missing, strict=True)],
        column,
        f"{split}: %d rows with an empty text",
    )
