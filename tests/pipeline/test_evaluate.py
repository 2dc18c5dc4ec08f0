from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from instatune_deploy.artifact.parity import run_rows
from instatune_deploy.devices.runs import Run
from instatune_deploy.devices.runtimes.base import Refused, RunFailed
from instatune_deploy.errors import BadInput, UserError
from instatune_deploy.pipeline import evaluate
from instatune_deploy.pipeline.evaluate import CannotEvaluate, in_batches, opened
from instatune_deploy.tasks.text_inputs import padded_batches

RUN = Run("onnxruntime", "fp32", 1)
LENGTHS = [5, 2, 9, 9, 1, 3, 7]


@dataclass
class FakeSession:
    """Its logits say which row they are of: the sum of the tokens, and how many the mask keeps."""

    shapes: list[tuple[int, ...]] = field(default_factory=list)
    closed: int = 0

    def run(self, inputs: Any) -> dict[str, np.ndarray]:
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        self.shapes.append(ids.shape)
        return {"logits": np.stack([(ids * mask).sum(axis=1), mask.sum(axis=1)], axis=1, dtype=np.float32)}

    def close(self) -> None:
        self.closed += 1


def tokens() -> dict[str, list[list[int]]]:
    """Row i: its number and something for every further token."""
    ids = [[1000 * (row + 1), *range(6, 5 + length)] for row, length in enumerate(LENGTHS)]
    return {"input_ids": ids, "attention_mask": [[1] * len(row) for row in ids]}


def expected() -> list[list[int]]:
    return [[sum(ids), len(ids)] for ids in tokens()["input_ids"]]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 50])
def test_like_length(tiny_tokenizer: Any, batch_size: int) -> None:
    session = FakeSession()
    logits = in_batches(session, padded_batches(tokens(), batch_size, tiny_tokenizer))  # type: ignore[arg-type]
    assert logits.dtype == np.float32
    assert logits.tolist() == expected()
    widths = [width for _, width in session.shapes]
    assert widths == sorted(widths, reverse=True)
    if batch_size == 3:  # 1, 2, 3; 5, 7, 9; 9
        assert session.shapes == [(1, 9), (3, 9), (3, 3)]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 10])
def test_one_shape(tiny_tokenizer: Any, batch_size: int) -> None:
    from instatune_deploy.tasks.text_inputs import pad

    session = FakeSession()
    logits = run_rows(session, pad(tokens(), 9, tiny_tokenizer), batch_size)  # type: ignore[arg-type]
    assert logits.dtype == np.float32
    assert logits.tolist() == expected()
    assert set(session.shapes) == {(batch_size, 9)}  # the last batch too
    assert len(session.shapes) == -(-7 // batch_size)


def test_a_graph_that_is_refused() -> None:
    with pytest.raises(BadInput, match="the graph: ONNX Runtime cannot load it"), opened(b"no graph", RUN):
        pass


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (Refused("it takes no such inputs"), BadInput, "it takes no such inputs"),
        (
            RunFailed("bad allocation"),
            CannotEvaluate,
            "the accuracy in onnxruntime fp32, 1 thread cannot be computed: bad allocation",
        ),
    ],
)
def test_an_error_while_it_runs(monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[UserError], said: str) -> None:
    session = FakeSession()
    monkeypatch.setattr(evaluate, "open_session", lambda graph, *run: session)
    with pytest.raises(UserError) as caught, opened(b"", RUN):
        raise error
    assert type(caught.value) is kind
    assert caught.value.message == said
    assert session.closed == 1


def test_a_graph_that_finds_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(graph: bytes, *run: Any) -> None:
        raise RunFailed("the graph: out of memory while ONNX Runtime loaded it")

    monkeypatch.setattr(evaluate, "open_session", fail)
    with pytest.raises(UserError, match="cannot be computed: the graph: out of memory"), opened(b"", RUN):
        pass
