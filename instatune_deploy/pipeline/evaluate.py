"""Logits of a graph over many rows, in the runtime that will ship."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any

import numpy as np

from instatune_deploy.artifact.samples import LOGITS
from instatune_deploy.devices.runs import Run
from instatune_deploy.devices.runtimes.base import Graph, RunFailed, Session
from instatune_deploy.devices.runtimes.registry import open_session, refusals_are_bad_input
from instatune_deploy.errors import UserError


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


def in_batches_of_like_length(
    session: Session, tokens: Mapping[str, Sequence[Sequence[int]]], batch_size: int, tokenizer: Any
) -> np.ndarray:
    """(rows, classes) float32, in the order of the rows; for a graph with open shapes.

    tokens: what `tasks.text_inputs.tokenize` gives. Rows are batched by length, so little is computed for padding.
    """
    from instatune_deploy.tasks.text_inputs import length_batches, pad

    lengths = [len(ids) for ids in tokens["input_ids"]]
    parts, order = [], []
    # the longest first: what a runtime allocates for them serves all others
    for indices in reversed(length_batches(lengths, batch_size)):
        part = {name: [values[index] for index in indices] for name, values in tokens.items()}
        parts.append(session.run(pad(part, max(lengths[index] for index in indices), tokenizer))[LOGITS])
        order.append(indices)
    return _in_order(np.concatenate(parts), np.concatenate(order))


def _in_order(logits: np.ndarray, order: np.ndarray) -> np.ndarray:
    result = np.empty(logits.shape, dtype=np.float32)
    result[order] = logits
    return result
