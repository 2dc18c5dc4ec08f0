"""The reference model: a small fixed network that is timed between candidates, to see how fast the host is just then.

Twelve narrow feed-forward blocks with fixed random weights. It is the same for every model that is deployed, so its latency
says something of the host and of nothing else. A host changes in two ways: how fast it computes, and how long its threads wait
for each other. Both must show in the reference as they show in transformers; wide blocks would hardly feel the second.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

from instatune_deploy.devices.onnx_bytes import Node, model_bytes
from instatune_deploy.devices.probe import reference_run
from instatune_deploy.devices.runs import Run
from instatune_deploy.digests import digest

TOKENS, HIDDEN, WIDTH, BLOCKS = 128, 384, 256, 12
INPUT = "hidden_states"
FILE_NAME = "reference.onnx"


@functools.cache
def reference_graph() -> bytes:
    """ONNX, float32: (128, 384) to (128, 384), 302 million multiply-accumulates in 24 matrices; always the same bytes."""
    random = np.random.default_rng(0)
    nodes: list[Node] = []
    weights, hidden = {}, INPUT
    for block in range(BLOCKS):
        for name, shape in ((f"up_{block}", (HIDDEN, WIDTH)), (f"down_{block}", (WIDTH, HIDDEN))):
            weights[name] = random.standard_normal(shape, dtype=np.float32) / np.float32(shape[0] ** 0.5)
        nodes += [
            Node("MatMul", [hidden, f"up_{block}"], f"wide_{block}"),
            Node("Relu", [f"wide_{block}"], f"active_{block}"),
            Node("MatMul", [f"active_{block}", f"down_{block}"], f"narrow_{block}"),
            Node("Softmax", [f"narrow_{block}"], f"normal_{block}", {"axis": -1}),
            Node("Add", [f"normal_{block}", hidden], f"block_{block}"),
        ]
        hidden = f"block_{block}"
    shape = (TOKENS, HIDDEN)
    made = {"graph": "reference", "producer": "instatune-deploy"}
    return model_bytes(nodes, weights, {INPUT: shape}, {hidden: shape}, **made, opset=17, ir_version=9)


def write_reference(folder: Path) -> Path:
    """Write the graph into ``folder``; the file's path."""
    path = folder / FILE_NAME
    folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(reference_graph())
    return path


def reference_key(run: Run, version: str, host: str) -> str:
    """Digest of everything the nominal latency beside ``run`` depends on. ``host`` is `Host.fingerprint`.

    Runs beside which the reference model is run alike, such as fp32 and int8 in ONNX Runtime, have one nominal latency.
    """
    return digest([reference_graph_digest(), list(reference_run(run)), version, host])


@functools.cache
def reference_graph_digest() -> str:
    """SHA-256 of the graph."""
    import hashlib

    return hashlib.sha256(reference_graph()).hexdigest()
