"""What a runtime offers: a session that runs one graph, and says how it really runs it.

The runtimes' files need nothing but NumPy and the runtime itself: they also run where nothing else is installed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Inputs = Mapping[str, Array]
Shape = tuple[int | None, ...]
Graph = bytes | Path
NO_MEMORY = ("bad_alloc", "failed to allocate", "out of memory", "outofmemory")
"""What libraries say, in lower case, when memory is all they lack."""


class Refused(ValueError):
    """The runtime cannot load the graph, does not take these inputs, or would not run it as asked."""


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
        """Outputs by name, in the graph's order. ``Refused`` when the inputs are not the graph's."""
        ...

    def bind(self, inputs: Inputs) -> Callable[[], object]:
        """A function that runs the graph once on ``inputs``, to be timed.

        Every runtime gets the same treatment: inputs are pinned before, on the device that computes (no copy of them is
        timed), outputs stay in the runtime's memory (no copy of them is timed either), and it returns when the device is
        done. It has run once when this returns; ``RunFailed`` if it cannot.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """What the runtime says it does (a JSON value): at least ``version``, ``precision``, ``threads`` and ``provider``."""
        ...

    def close(self) -> None:
        """Give back memory and threads; the session cannot be used afterwards."""
        ...


class RuntimeModule(Protocol):
    """What the file of a runtime defines."""

    def version(self) -> str: ...

    def share_threads(self, threads: int) -> bool:
        """Let all sessions of this process that run ``threads`` threads have them in common; whether they do.

        For a process that measures: threads of one session spin on for a while and would take the processor from another's.
        Once they do, a runtime may refuse sessions of any other number in this process.
        """
        ...

    def provider_name(self, provider: str) -> str:
        """What ``provider`` is on this host: the name of the card and its driver's version, as far as they are told."""
        ...

    def missing_provider(self, provider: str) -> str | None:
        """What this host lacks for ``provider``, as a phrase that follows "it needs"; None when it is there."""
        ...

    def open_session(self, graph: Graph, precision: str, threads: int, provider: str) -> Session: ...

    def loading_source(self, precision: str, threads: int, provider: str) -> str:
        """A Python function ``load(path)`` as text, for programs that run a graph so without anything of ours.

        What it gives back takes inputs by name and gives the array ``logits``.
        """
        ...


def check_inputs(wanted: Mapping[str, tuple[Shape, np.dtype[Any]]], inputs: Inputs) -> dict[str, Array]:
    """``inputs`` in the order of ``wanted``; ``Refused`` unless names, shapes and types are right.

    Runtimes differ here: one refuses, another computes with whatever stood in its memory. Arrays that cannot be used in place
    (not contiguous, read-only) are copied, once.
    """
    if set(wanted) != set(inputs):
        raise Refused(f"the graph takes the inputs {', '.join(wanted)}; given were {', '.join(inputs) or 'none'}")
    checked = {}
    for name, (shape, dtype) in wanted.items():
        array = np.require(inputs[name], requirements=["C", "W", "A"])
        fits = len(array.shape) == len(shape) and all(want in (None, size) for want, size in zip(shape, array.shape, strict=True))
        if not fits or array.dtype != dtype:
            expected = f"{dtype} of shape ({', '.join('any' if size is None else str(size) for size in shape)})"
            raise Refused(f"input {name}: the graph takes {expected}; given was {array.dtype} of shape {array.shape}")
        checked[name] = array
    return checked


def cannot_load(graph: Graph, runtime: str, why: str, error: BaseException) -> Refused | RunFailed:
    """The error of a graph that did not load: memory is what the host lacks, anything else lies with the graph."""
    if any(words in str(error).lower() for words in NO_MEMORY):
        return RunFailed(f"{graph_name(graph)}: out of memory while {runtime} loaded it")
    return Refused(f"{graph_name(graph)}: {runtime} cannot load it: {why}")


def first_line(error: BaseException) -> str:
    """What a library says, without what follows."""
    return str(error).strip().partition("\n")[0]


def graph_name(graph: Graph) -> str:
    """The graph in messages."""
    return str(graph) if isinstance(graph, Path) else "the graph"
