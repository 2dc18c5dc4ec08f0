"""The task text classification: labelled texts in three fixed splits, and accuracy as the metric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from instatune_deploy.config import DataSettings
from instatune_deploy.digests import digest
from instatune_deploy.errors import BadInput
from instatune_deploy.tasks.labels import encode_labels, refuse_rows
from instatune_deploy.tasks.tables import SPLITS, Split, read_splits
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
    encoded, names = encode_labels({split: table[settings.label] for split, table in tables.items()}, settings)
    rows: dict[str, _Rows] = {}
    for split, table in tables.items():
        pairs = zip(table[settings.text], encoded[split], strict=True)
        rows[split] = [(text, label) for text, label in pairs if label is not None]
        if not rows[split]:
            raise BadInput(f"data: {split}: data.binarize leaves no row")
    if len({label for kept in rows.values() for _, label in kept}) < 2:
        only = names[next(iter(rows.values()))[0][1]]
        raise BadInput(f"data: every row has the label '{only}'; classification needs at least two classes")
    splits = _complete(rows, settings)
    texts: dict[Split, list[str]] = {split: [text for text, _ in splits[split]] for split in SPLITS}
    labels: dict[Split, list[int]] = {split: [label for _, label in splits[split]] for split in SPLITS}
    if len(set(labels["train"])) < 2:
        raise BadInput(
            f"data: all {len(labels['train'])} training rows have the label '{names[labels['train'][0]]}'; "
            "classification needs at least two classes"
        )
    arrays = {split: np.asarray(values, dtype=np.int64) for split, values in labels.items()}
    return TextData(texts, arrays, names, digest({"texts": texts, "labels": labels, "label_names": names}))


_Rows = list[tuple[str, int]]


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


def _complete(rows: Mapping[str, _Rows], settings: DataSettings) -> dict[Split, _Rows]:
    """All three splits: those the data comes with, the missing ones out of the training rows."""
    pool = rows["all"] if "all" in rows else rows["train"]
    wanted: dict[Literal["test", "validation"], int] = {}
    if "test" not in rows:
        wanted["test"] = settings.split.test
    if "validation" not in rows:
        wanted["validation"] = settings.split.validation
    if sum(wanted.values()) >= len(pool):
        asked = " and ".join(f"{count} {split}" for split, count in wanted.items())
        raise BadInput(f"data: {len(pool)} rows are too few for {asked} rows and at least one for training; lower data.split")
    drawn = split_rows(len(pool), wanted, settings.split.seed)
    chosen = drawn["train"]
    if settings.train_rows is not None:
        # a stream of its own: which rows are tested on does not depend on how many are trained on
        order = np.random.default_rng([settings.split.seed, 1]).permutation(len(chosen))
        chosen = chosen[order[: settings.train_rows]]
    complete: dict[Split, _Rows] = {"train": [pool[index] for index in chosen]}
    for split in SPLITS[1:]:
        complete[split] = [pool[index] for index in drawn[split]] if split in drawn else rows[split]
    return complete


def split_rows(count: int, wanted: Mapping[Literal["test", "validation"], int], seed: int) -> dict[Split, npt.NDArray[np.int64]]:
    """Indices 0 .. ``count`` - 1, each in exactly one split: ``wanted`` rows for test, then validation, the rest for training.

    With nothing wanted the training rows keep their order.
    """
    order = np.random.default_rng(seed).permutation(count) if wanted else np.arange(count)
    splits: dict[Split, npt.NDArray[np.int64]] = {}
    start = 0
    for split in ("test", "validation"):
        if split in wanted:
            splits[split] = order[start : start + wanted[split]]
            start += wanted[split]
    splits["train"] = order[start:]
    return splits


def accuracy(logits: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """The fraction (0 .. 1) of rows whose largest logit is their class. ``logits``: (rows, classes), ``labels``: (rows,)."""
    scores, truth = np.asarray(logits), np.asarray(labels)
    if scores.ndim != 2 or truth.shape != scores.shape[:1] or truth.size == 0:
        raise ValueError(f"logits {scores.shape} and labels {truth.shape} are not (rows, classes) and (rows,) with rows > 0")
    return float(np.mean(scores.argmax(axis=1) == truth))
