"""Measure graphs in this process, the reference model beside them. Needs NumPy and a runtime, and nothing else.

This is what a measuring process runs, on this host and on a device that is elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from instatune_deploy.devices import cpus, memory
from instatune_deploy.devices.energy import energy_mj
from instatune_deploy.devices.gpu import gpu_state
from instatune_deploy.devices.latency import Timing
from instatune_deploy.devices.runs import Run
from instatune_deploy.devices.runtimes.base import Graph, Inputs, RunFailed, Session
from instatune_deploy.devices.runtimes.modules import open_run, runtime_module, version_for
from instatune_deploy.devices.timing import Reference, Rules, calibrate, measure

ATTEMPTS = 2
SPINNING_MS = 40.0
"""So long the threads of an ONNX Runtime session stay busy after its last run (measured: 37 ms)."""
OPENED_BY = Callable[[Graph, Run], Session]


@dataclass(frozen=True)
class Outcome:
    """What came of measuring one graph.

    timing:        None when it could not be run at all
    why:           why the figures are not to be believed; None when they are
    circumstances: started (ISO 8601, UTC), load, what the runtime said, attempts, peak memory, energy (a JSON value)
    """

    timing: Timing | None
    why: str | None
    version: str
    circumstances: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """A JSON value."""
        timing = None if self.timing is None else self.timing.to_json()
        return {"timing": timing, "why": self.why, "version": self.version, "circumstances": self.circumstances}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Outcome:
        """The inverse of `to_json`; TypeError or KeyError when a key is missing or not known."""
        timing = value["timing"]
        return cls(**{**value, "timing": None if timing is None else Timing.from_json(timing)})


def reference_run(run: Run) -> Run:
    """How the reference model is run beside ``run``: alike, but int8 is a property of graphs, and so is fp16 for ONNX Runtime."""
    precision = run.precision
    if precision.startswith("int8"):
        precision = "fp16" if run.provider == "npu" else "fp32"
    elif run.runtime == "onnxruntime":
        precision = "fp32"
    return run._replace(precision=precision)


@dataclass
class Probe:
    """Measures one graph after the other; reference models stay loaded between them.

    reference: file of the reference model
    share:     let sessions have their threads in common; only where all of them run the same number of threads, because a
               process that shares takes no other number any more
    """

    reference: Path
    open: OPENED_BY = open_run
    share: bool = True
    _references: dict[Run, tuple[Session, Callable[[], object]]] = field(default_factory=dict)

    def nominal_ms(self, run: Run, rules: Rules) -> tuple[float | None, str | None]:
        """What the reference model takes on this host when it is quiet, or None and why that cannot be said now."""
        self._shared(run)
        return calibrate(self._reference(run), rules, threads=run.threads)

    def measure(self, graph: Graph, inputs: Inputs, run: Run, rules: Rules, nominal_ms: float | None) -> Outcome:
        """Latency of ``graph``, a second time when the first is not to be believed.

        nominal_ms: of the reference model (`nominal_ms`); None leaves the figures as the clock gave them

        ``Refused`` when the graph cannot be loaded or does not take these inputs.
        """
        started = datetime.now(timezone.utc).isoformat(timespec="milliseconds")  # noqa: UP017 (devices have older Pythons)
        load = cpus.load_average()
        account = cpus.cpu_account()
        timing: Timing | None = None
        attempts = 0
        said: dict[str, Any] = {}
        costs: dict[str, Any] = {}
        why: str | None = None
        shared = self._shared(run)
        with ExitStack() as stack:
            try:
                beside = self._reference(run)  # before the peak begins anew: loading it is no part of that
                watched = memory.forget_peak()
                session = stack.enter_context(closing(self.open(graph, run)))
                said = session.describe()
                reference = Reference(beside, nominal_ms, 0.0 if shared else SPINNING_MS)
                run_once = session.bind(inputs)
                for attempts in range(1, ATTEMPTS + 1):  # noqa: B007
                    timing, why = measure(run_once, rules, threads=run.threads, reference=reference)
                    if why is None:
                        break
                costs = {"peak_memory_bytes": memory.peak_bytes() if watched else None}
                if run.provider == "cpu":  # the counters are the processors'
                    costs["energy_mj"] = energy_mj(run_once)
            except (RunFailed, MemoryError) as error:
                timing, why = None, f"it could not be run: {str(error) or 'out of memory'}"
        others = cpus.others_cores(account, cpus.cpu_account())
        circumstances = {
            "started": started,
            "load_before": load,
            "load_after": cpus.load_average(),
            "others_cores": None if others is None else round(others, 2),
            "attempts": attempts,
            "runtime_says": said,
            **{name: value for name, value in costs.items() if value is not None},
            **({} if run.provider == "cpu" else {"gpu_after": gpu_state()}),
        }
        return Outcome(timing, why, version_for(run), circumstances)

    def _shared(self, run: Run) -> bool:
        """Whether the sessions of this process have their threads in common."""
        return self.share and runtime_module(run.runtime).share_threads(run.threads)

    def close(self) -> None:
        """Give back what the reference models hold."""
        for session, _ in self._references.values():
            session.close()
        self._references.clear()

    def _reference(self, run: Run) -> Callable[[], object]:
        beside = reference_run(run)
        if beside not in self._references:
            session = self.open(self.reference, beside)
            (name,) = session.input_names
            shape = tuple(size or 1 for size in session.input_shapes[name])
            values = np.random.default_rng(1).standard_normal(shape, dtype=np.float32)
            self._references[beside] = session, session.bind({name: values})
        return self._references[beside][1]
