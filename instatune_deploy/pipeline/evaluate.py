"""Logits of a graph over many rows, in the runtime that will ship."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Protocol

import numpy as np

from instatune_deploy.artifact.samples import LOGITS
from instatune_deploy.devices.runs import Run
from instatune_deploy.devices.runtimes.base import Graph, RunFailed, Session
from instatune_deploy.devices.runtimes.registry import open_session, refusals_are_bad_input
from instatune_deploy.errors import UserError
from instatune_deploy.tasks.base import Arrays
from instatune_deploy.tasks.tables import Split


class CannotEvaluate(UserError):
    """The runtime could not run a graph over the rows: out of memory, most often."""


@contextmanager
def opened(graph: Graph, run: Run) -> Iterator[Session]:
    """A session for the rows of a split. ``BadInput`` or `CannotEvaluate` when the runtime cannot, also while it runs."""
    try:
        with refusals_are_bad_input(), closing(open_session(graph, *run)) as session:
            yield session
    except RunFailed as error:
        raise CannotEvaluate(f"the accuracy in {run} cannot be computed: {error}") from error


def in_batches(session: Session, batches: Iterable[tuple[np.ndarray, Arrays]]) -> np.ndarray:
    """(rows, classes) float32, in the order of the rows. batches: row numbers and inputs, as `Task.batches` gives them"""
    parts, order = [], []
    for indices, inputs in batches:
        # a graph of one shape is given more rows than are asked for at the end
        parts.append(session.run(inputs)[LOGITS][: len(indices)])
        order.append(indices)
    return _in_order(np.concatenate(parts), np.concatenate(order))


class Rows(Protocol):
    """Rows as graphs of one size take them; see `Task`."""

    @property
    def counts(self) -> dict[Split, int]: ...
    def arrays(self, split: Split, size: int, rows: Sequence[int] | None = None) -> Arrays: ...


def of_one_size(given: Rows, split: Split, size: int, batch_size: int) -> Iterator[tuple[np.ndarray, Arrays]]:
    """Every row of a split once, in their order, in batches of exactly ``batch_size``: the last row is repeated at the end."""
    count = given.counts[split]
    for start in range(0, count, batch_size):
        rows = np.minimum(np.arange(start, start + batch_size), count - 1)
        yield rows[: count - start], given.arrays(split, size, rows.tolist())


def _in_order(logits: np.ndarray, order: np.ndarray) -> np.ndarray:
    result = np.empty(logits.shape, dtype=np.float32)
    result[order] = logits
    return result
