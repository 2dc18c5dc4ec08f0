"""One way of running a graph: which runtime, in what precision, on how many threads, on what."""

from __future__ import annotations

from typing import NamedTuple


class Run(NamedTuple):
    """One way of running a graph.

    threads:  of one inference
    provider: what computes (`config.Provider`)
    """

    runtime: str
    precision: str
    threads: int
    provider: str = "cpu"

    def __str__(self) -> str:
        where = "" if self.provider == "cpu" else f" {self.provider}"
        return f"{self.runtime}{where} {self.precision}, {self.threads} thread{'s' if self.threads != 1 else ''}"
