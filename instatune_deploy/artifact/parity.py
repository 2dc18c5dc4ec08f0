"""Parity: does the finished graph say what PyTorch said, on real rows?"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from instatune_deploy.artifact.graph_files import GRAPH_FILES
from instatune_deploy.artifact.samples import LOGITS, Samples, batch
from instatune_deploy.devices.runs import Run
from instatune_deploy.devices.runtimes.base import RunFailed, Session
from instatune_deploy.devices.runtimes.registry import open_session, refusals_are_bad_input
from instatune_deploy.errors import VerificationFailed

FP32_TOLERANCE = 1e-4
# bf16 keeps 8 significant bits: each product is rounded to 2^-9 (0.2%) of its size, and some dozens of them follow each
# other from the embedding to the logits. On MiniLM (3 and 6 layers, OpenVINO) that adds up to 0.6 - 1.2% of the largest
# logit; deeper models get more room. A wrong weight, a layer too few or a swapped input moves logits by their own size.
# fp16 keeps 11 bits, so an eighth of that. int8 keeps 8 bits of a range and not of each value: on MiniLM, calibrated, rows
# differ by up to a third of the largest logit and decide the same; whether that is good enough, the accuracy says.
SHARES = {"bf16": 0.05, "fp16": 0.01, "int8": 0.5, "int8-dynamic": 0.5}


class Deployed(Protocol):
    """How a manifest says that its graph is run."""

    @property
    def runtime(self) -> str: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def run(self) -> Run: ...


@dataclass(frozen=True)
class Parity:
    """How far a graph's logits lie from PyTorch's.

    max_abs_diff:      the largest difference of any logit
    rows:              that were compared
    tolerance:         what ``max_abs_diff`` may be. A decision whose two best logits lie more than twice this apart cannot
                       change within it
    changed_decisions: rows whose best class is another one
    """

    max_abs_diff: float
    rows: int
    tolerance: float
    changed_decisions: int

    @property
    def ok(self) -> bool:
        """False also for NaN."""
        return self.max_abs_diff <= self.tolerance

    def __str__(self) -> str:
        allowed = f"{'within' if self.ok else 'more than'} the tolerance of {self.tolerance:.2g}"
        changed = f"; {self.changed_decisions} decide differently" if self.changed_decisions else ""
        return f"logits of {self.rows} rows differ by up to {self.max_abs_diff:.2g}, {allowed}{changed}"


def tolerance(precision: str, logits: NDArray[Any]) -> float:
    """How far from ``logits``, which PyTorch computed in fp32, a graph of ``precision`` may be and still be the same network."""
    if precision == "fp32":
        return FP32_TOLERANCE
    return SHARES[precision] * max(1.0, float(np.abs(logits).max()))


def check_parity(folder: Path, deployment: Deployed, samples: Samples, allowed: float) -> Parity:
    """Run every sample row through the graph in ``folder``, as ``deployment`` says, and compare.

    ``BadInput`` when this host cannot run it so, or the graph does not take the samples' inputs; ``VerificationFailed``
    when the runtime breaks off.
    """
    path = GRAPH_FILES[deployment.runtime].path(folder)
    try:
        with closing(open_session(path, *deployment.run)) as session, refusals_are_bad_input():
            found = run_rows(session, samples.inputs, deployment.batch_size)
    except RunFailed as error:
        raise VerificationFailed(f"{path}: it could not be run: {error}") from error
    return compare(samples.logits, found, allowed)


def run_rows(session: Session, inputs: Mapping[str, NDArray[Any]], batch_size: int) -> NDArray[Any]:
    """Logits (rows, classes) of all rows, ``batch_size`` at a time as the graph's static shape wants it."""
    parts, rows = [], len(next(iter(inputs.values())))
    for start in range(0, rows, batch_size):
        outputs = session.run(batch(inputs, start, batch_size))
        if LOGITS not in outputs:
            raise VerificationFailed(f"the graph has no output '{LOGITS}', only {', '.join(outputs)}")
        parts.append(outputs[LOGITS])
    return np.concatenate(parts)[:rows]


def compare(expected: NDArray[Any], found: NDArray[Any], allowed: float) -> Parity:
    """Both (rows, classes). Logits of another shape are infinitely far away."""
    if found.shape != expected.shape:
        return Parity(float("inf"), len(expected), allowed, len(expected))
    return Parity(
        max_abs_diff=float(np.abs(expected.astype(np.float64) - found.astype(np.float64)).max()),
        rows=len(expected),
        tolerance=allowed,
        changed_decisions=int((expected.argmax(axis=1) != found.argmax(axis=1)).sum()),
    )
