"""What a task is to the stages of a pipeline: rows, how they become a model's inputs, and what a consumer must know of that."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from instatune_deploy.tasks.tables import Split

Arrays = dict[str, npt.NDArray[Any]]
"""Inputs of a model by name, (rows, ...) each."""
TOKENS, PIXELS = "tokens", "px"
"""Units of an input's size."""


class Labelled(Protocol):
    """Rows of all splits, and what they are labelled with."""

    @property
    def label_names(self) -> list[str]:
        """The i-th logit is the i-th name's."""
        ...

    @property
    def labels(self) -> Mapping[Split, npt.NDArray[np.int64]]:
        """Class numbers of each split, (rows,)."""
        ...

    @property
    def key(self) -> str:
        """Digest of all rows: equal keys, equal data."""
        ...


class OfData:
    """What a task says of its rows' labels is what its ``data`` says."""

    data: Labelled

    @property
    def label_names(self) -> list[str]:
        """See `Labelled`."""
        return self.data.label_names

    @property
    def labels(self) -> Mapping[Split, npt.NDArray[np.int64]]:
        """See `Labelled`."""
        return self.data.labels

    @property
    def key(self) -> str:
        """See `Labelled`."""
        return self.data.key


class Task(Labelled, Protocol):
    """The rows of a task, with the preprocessing of the checkpoint that is fine-tuned.

    ``size``, of one input, is in the task's own ``unit``: tokens of a text, pixels of an image's edge.
    """

    @property
    def unit(self) -> str:
        """What a size is counted in: `TOKENS` or `PIXELS`."""
        ...

    @property
    def largest(self) -> int:
        """The size of the training rows; a device's inputs are no larger."""
        ...

    def size_on(self, sequence_length: int, image_size: int | None = None) -> int:
        """The size of a device's inputs. sequence_length: tokens that its profile has; image_size: pixels that it says, if any.

        ``BadInput`` for a size that the model cannot have.
        """
        ...

    @property
    def axes(self) -> tuple[str, ...]:
        """The dimensions of an input that a graph can leave open, the first ones in their order."""
        ...

    @property
    def counts(self) -> dict[Split, int]:
        """Rows of each split."""
        ...

    @property
    def has_top5(self) -> bool:
        """Whether people ask of it how often the right label is among the five likeliest, too."""
        ...

    @property
    def warnings(self) -> Sequence[str]:
        """What a user should know of the rows, a line each."""
        ...

    def rows_key(self, split: Split) -> str:
        """Digest of the rows of a split and their labels."""
        ...

    @property
    def packages(self) -> tuple[str, ...]:
        """The libraries that make inputs of its rows, by their names on PyPI: other versions may make others."""
        ...

    def trained_on(self) -> dict[str, Any]:
        """What the weights of a training depend on beside rows and checkpoint: a JSON value."""
        ...

    def tokens(self, size: int) -> int:
        """Tokens that a transformer makes of one input."""
        ...

    def arrays(self, split: Split, size: int, rows: Sequence[int] | None = None) -> Arrays:
        """Rows of a split (all for None), each of one size, as a graph of that one size takes them."""
        ...

    def batches(self, split: Split, size: int, batch_size: int) -> Iterator[tuple[npt.NDArray[np.int64], Arrays]]:
        """Every row of a split once, with as little padding as can be: row numbers, and the inputs of them.

        The largest batch comes first: what a runtime allocates for it serves all others.
        """
        ...

    def training_rows(self, seed: int) -> Sequence[dict[str, Any]]:
        """The training rows as a data loader takes them, with ``labels``. seed: of what is drawn, if anything is."""
        ...

    def collator(self) -> Callable[[list[Any]], Any]:
        """Makes a batch of tensors of such rows."""
        ...

    def save(self, folder: Path, size: int) -> None:
        """Write the preprocessor's own files (tokenizer or image processor) beside a checkpoint for inputs of a size."""
        ...

    def described(self, folder: Path, inputs: Sequence[str], size: int) -> dict[str, Any] | None:
        """How an input becomes what the graph takes in, step by step, for programs in any language; None where that cannot be
        said. A JSON value with at least ``kind`` and ``steps``.

        folder: with the files of `save`; inputs: of the graph, by name
        """
        ...

    def samples(self, split: Split, count: int, folder: Path) -> list[dict[str, Any]]:
        """The first rows of a split as a person sees them, a JSON object each; files that they name are written to ``folder``."""
        ...
