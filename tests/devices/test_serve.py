from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from instatune_deploy.devices import serve
from instatune_deploy.devices.probe import Outcome
from instatune_deploy.devices.runs import Run
from instatune_deploy.devices.runtimes.base import Refused, RunFailed

from .conftest import QUICK, TIMING

RUN = Run("openvino", "int8", 3, "gpu")
OUTCOME = Outcome(TIMING, None, "1.0", {"load_before": 0.5})


class FakeProbe:
    """Remembers what it was asked; answers, or raises."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[Any] = []

    def _answer(self, *asked: Any) -> Any:
        self.asked.append(asked)
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    def nominal_ms(self, run: Run, rules: SimpleNamespace) -> Any:
        return self._answer(run, rules)

    def measure(self, graph: Path, inputs: dict[str, Any], run: Run, rules: SimpleNamespace, nominal_ms: float | None) -> Any:
        return self._answer(graph, inputs, run, rules, nominal_ms)


@pytest.fixture
def request_of(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """A request as it comes over the line, with the inputs in a file."""
    np.savez(tmp_path / "inputs.npz", ids=np.arange(3), mask=np.ones((1, 2), np.float32))

    def make(**more: Any) -> dict[str, Any]:
        graph = {"graph": "/a/graph.onnx", "inputs": str(tmp_path / "inputs.npz"), "nominal_ms": 2.5}
        made: dict[str, Any] = json.loads(json.dumps({"run": RUN, "rules": QUICK.model_dump(), **graph, **more}))
        return made

    return make


def test_a_graph(request_of: Callable[..., dict[str, Any]]) -> None:
    probe = FakeProbe(OUTCOME)
    answer = serve.answer(probe, request_of())  # type: ignore[arg-type]
    assert Outcome.from_json(json.loads(json.dumps(answer))["outcome"]) == OUTCOME
    ((graph, inputs, run, rules, nominal_ms),) = probe.asked
    assert (graph, run, nominal_ms) == (Path("/a/graph.onnx"), RUN, 2.5)
    assert isinstance(run, Run)
    assert vars(rules) == QUICK.model_dump()
    assert list(inputs) == ["ids", "mask"]
    assert inputs["ids"].tolist() == [0, 1, 2]
    assert (inputs["mask"].shape, inputs["mask"].dtype) == ((1, 2), np.float32)


def test_the_nominal_speed() -> None:
    request = {"run": list(RUN), "rules": QUICK.model_dump()}
    probe = FakeProbe((3.5, None))
    assert serve.answer(probe, request) == {"nominal_ms": 3.5, "why": None}  # type: ignore[arg-type]
    assert probe.asked == [(RUN, SimpleNamespace(**QUICK.model_dump()))]
    assert serve.answer(FakeProbe((None, "a neighbour")), request) == {"nominal_ms": None, "why": "a neighbour"}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (Refused("the graph takes other inputs"), {"refused": "the graph takes other inputs"}),
        (RunFailed("bad allocation"), {"failed": "bad allocation"}),
        (MemoryError(), {"failed": "out of memory"}),
        (MemoryError("Unable to allocate 9 TiB"), {"failed": "Unable to allocate 9 TiB"}),
    ],
)
def test_errors(request_of: Callable[..., dict[str, Any]], error: Exception, answer: dict[str, str]) -> None:
    assert serve.answer(FakeProbe(error), request_of()) == answer  # type: ignore[arg-type]


def test_pickled_inputs_are_not_read(tmp_path: Path, request_of: Callable[..., dict[str, Any]]) -> None:
    np.savez(tmp_path / "objects.npz", ids=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        serve.answer(FakeProbe(OUTCOME), request_of(inputs=str(tmp_path / "objects.npz")))  # type: ignore[arg-type]


def test_a_line_for_a_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    answers = iter([(3.5, None), Refused("two\nlines"), (4.5, None)])

    class Probe:
        def __init__(self, reference: Path) -> None:
            assert reference == tmp_path

        def nominal_ms(self, *_: object) -> Any:
            answer = next(answers)
            if isinstance(answer, Exception):
                raise answer
            return answer

    monkeypatch.setattr(serve, "Probe", Probe)
    said = io.StringIO()
    line = json.dumps({"run": RUN, "rules": QUICK.model_dump()}) + "\n"
    serve.main(io.StringIO(line * 3), said, tmp_path)
    assert [json.loads(answer) for answer in said.getvalue().splitlines()] == [
        {"nominal_ms": 3.5, "why": None},
        {"refused": "two\nlines"},
        {"nominal_ms": 4.5, "why": None},
    ]
