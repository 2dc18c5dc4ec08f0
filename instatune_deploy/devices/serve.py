"""What a measuring process does: read requests, measure, answer, one line of JSON each. Started by `process.MeasuringProcess`.

Nothing is loaded here but NumPy and the runtime: what else a program has loaded and its threads would be measured too.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TextIO

import numpy as np

from instatune_deploy.devices.probe import Probe
from instatune_deploy.devices.runs import Run
from instatune_deploy.devices.runtimes.base import Refused, RunFailed


def answer(probe: Probe, request: dict[str, Any]) -> dict[str, Any]:
    """The answer to one request: ``refused`` when the graph or the way of running it is, ``failed`` for the rest of errors."""
    run, rules = Run(*request["run"]), SimpleNamespace(**request["rules"])
    try:
        if "graph" not in request:
            nominal_ms, why = probe.nominal_ms(run, rules)
            return {"nominal_ms": nominal_ms, "why": why}
        with np.load(request["inputs"], allow_pickle=False) as arrays:
            inputs = {name: arrays[name] for name in arrays.files}
        return {"outcome": probe.measure(Path(request["graph"]), inputs, run, rules, request["nominal_ms"]).to_json()}
    except Refused as error:
        return {"refused": str(error)}
    except (RunFailed, MemoryError) as error:
        return {"failed": str(error) or "out of memory"}


def main(requests: TextIO, answers: TextIO, reference: Path) -> None:
    """Answer until there are no more requests."""
    probe = Probe(reference)
    for line in requests:
        answers.write(json.dumps(answer(probe, json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    # an interrupt is meant for the process that asks; when that is gone, so are the requests
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # libraries print what they like: answers have the standard output for themselves
    private = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    main(sys.stdin, private, Path(sys.argv[1]))
