"""What most people do: run it ten times, then a hundred times, and take the mean. A process that answers with it.

It reads a line of JSON for every graph from standard input: graph, inputs, threads; and answers with milliseconds.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import onnxruntime

WARM_UP, RUNS = 10, 100


def mean_ms(graph: str, inputs: str, threads: int) -> float:
    """Mean latency of plain ONNX Runtime with its defaults."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    with np.load(inputs, allow_pickle=False) as arrays:
        feeds = {name: arrays[name] for name in arrays.files}
    for _ in range(WARM_UP):
        session.run(None, feeds)
    start = time.perf_counter()
    for _ in range(RUNS):
        session.run(None, feeds)
    return (time.perf_counter() - start) / RUNS * 1e3


if __name__ == "__main__":
    for line in sys.stdin:
        print(mean_ms(**json.loads(line)), flush=True)
