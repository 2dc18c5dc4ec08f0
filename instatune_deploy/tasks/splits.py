"""From labelled rows, of texts or of images, to three splits: those that the data comes with, and the others drawn from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from instatune_deploy.config import DataSettings
from instatune_deploy.errors import BadInput
from instatune_deploy.tasks.labels import encode_labels
from instatune_deploy.tasks.tables import SPLITS, Split

if TYPE_CHECKING:
    import pandas as pd

Row = TypeVar("Row")
"""What is labelled."""


@dataclass(frozen=True, eq=False)
class LabelledSplits(Generic[Row]):
    """Rows and class numbers (int64, ``(rows,)``) of each split, and the class names in class order."""

    rows: dict[Split, list[Row]]
    labels: dict[Split, npt.NDArray[np.int64]]
    label_names: list[str]


def labelled_splits(
    rows: Mapping[str, Sequence[Row]], labels: Mapping[str, pd.Series], settings: DataSettings
) -> LabelledSplits[Row]:
    """All three splits of rows that come in some of them, or under ``"all"``; each as long as its column of labels.

    Splits that the data comes with are used whole; missing ones are drawn from its training rows with ``settings.split``.
    ``BadInput`` names split, row and value.
    """
    encoded, names = encode_labels(labels, settings)
    kept: dict[str, list[tuple[Row, int]]] = {}
    for split, contents in rows.items():
        kept[split] = [(row, label) for row, label in zip(contents, encoded[split], strict=True) if label is not None]
        if not kept[split]:
            raise BadInput(f"data: {split}: data.binarize leaves no row")
    if len({label for pairs in kept.values() for _, label in pairs}) < 2:
        only = names[next(iter(kept.values()))[0][1]]
        raise BadInput(f"data: every row has the label '{only}'; classification needs at least two classes")
    splits = _complete(kept, settings)
    numbers = {split: np.asarray([label for _, label in pairs], dtype=np.int64) for split, pairs in splits.items()}
    train = numbers["train"]
    if len(set(train.tolist())) < 2:
        raise BadInput(
            f"data: all {len(train)} training rows have the label '{names[train[0]]}'; classification needs at least two classes"
        )
    return LabelledSplits({split: [row for row, _ in pairs] for split, pairs in splits.items()}, numbers, names)


def _complete(rows: Mapping[str, list[tuple[Row, int]]], settings: DataSettings) -> dict[Split, list[tuple[Row, int]]]:
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
    complete: dict[Split, list[tuple[Row, int]]] = {"train": [pool[index] for index in chosen]}
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
