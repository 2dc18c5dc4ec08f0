"""What a runtime offers: a session that runs one graph, and says how it really runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from instatune_deploy.errors import BadInput

Array = NDArray[Any]
Inputs = Mapping[str, Array]
Shape = tuple[int | None, ...]
Graph = bytes | Path


class RunFailed(RuntimeError):
    """The runtime took the graph but could not run it on this host: out of memory, most often."""


class Session(Protocol):
    """One graph, loaded and compiled for one precision and number of threads.

    input_names:  in the graph's order
    input_shapes: of each input; None stands for a size that the graph leaves open
    """

    @property
    def input_names(self) -> tuple[str, ...]: ...

    @property
    def input_shapes(self) -> dict[str, Shape]: ...

    def run(self, inputs: Inputs) -> dict[str, Array]:
        """Outputs by name, in the graph's order. ``BadInput`` when the inputs are not the graph's."""
        ...

    def bind(self, inputs: Inputs) -> Callable[[], object]:
        """A function that runs the graph once on ``inputs``, to be timed.

        Every runtime gets the same treatment: inputs are pinned before (no copy of them is timed), outputs stay in the
        runtime's memory (no copy of them is timed either). It has run once when this returns; ``RunFailed`` if it cannot.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """What the runtime says it does (a JSON value): at least ``version``, ``precision`` and ``threads``."""
        ...

    def close(self) -> None:
        """Give back memory and threads; the session cannot be used afterwards."""
        ...


class RuntimeModule(Protocol):
    """What the file of a runtime defines."""

    def version(self) -> str: ...

    def open_session(self, graph: Graph, precision: str, threads: int) -> Session: ...


def check_inputs(wanted: Mapping[str, tuple[Shape, np.dtype[Any]]], inputs: Inputs) -> dict[str, Array]:
    """``inputs`` in the order of ``wanted``; ``BadInput`` unless names, shapes and types are right.

    Runtimes differ here: one refuses, another computes with whatever stood in its memory. Arrays that cannot be used in place
    (not contiguous, read-only) are copied, once.
    """
    if set(wanted) != set(inputs):
        raise BadInput(f"the graph takes the inputs {', '.join(wanted)}; given were {', '.join(inputs) or 'none'}")
    checked = {}
    for name, (shape, dtype) in wanted.items():
        array = np.require(inputs[name], requirements=["C", "W", "A"])
        fits = len(array.shape) == len(shape) and all(want in (None, size) for want, size in zip(shape, array.shape, strict=True))
        if not fits or array.dtype != dtype:
            expected = f"{dtype} of shape ({', '.join('any' if size is None else str(size) for size in shape)})"
            raise BadInput(f"input {name}: the graph takes {expected}; given was {array.dtype} of shape {array.shape}")
        checked[name] = array
    return checked


def graph_name(graph: Graph) -> str:
    """The graph in messages."""
    return str(graph) if isinstance(graph, Path) else "the graph"
