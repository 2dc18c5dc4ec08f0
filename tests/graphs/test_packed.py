"""Graphs that share a file of weights: both runtimes read them, and what they share stands there once."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from instatune_deploy.devices.runtimes.registry import open_session
from instatune_deploy.graphs.carved import PAGE_BYTES, Carved
from instatune_deploy.graphs.packed import WEIGHTS, PackedGraphs

SHARED = np.random.default_rng(0).standard_normal((16, 32)).astype(np.float32)
OWN = [np.random.default_rng(seed).standard_normal((32, width)).astype(np.float32) for seed, width in ((1, 8), (2, 24))]


def graph(own: np.ndarray) -> onnx.ModelProto:
    """y = x SHARED own"""
    nodes = [helper.make_node("MatMul", ["x", "shared"], ["h"]), helper.make_node("MatMul", ["h", "own"], ["y"])]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 16])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, own.shape[1]])]
    weights = [numpy_helper.from_array(SHARED, "shared"), numpy_helper.from_array(own, "own")]
    body = helper.make_graph(nodes, "packed", inputs, outputs, weights)
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_packed(tmp_path: Path, runtime: str) -> None:
    with PackedGraphs(tmp_path) as packed:
        sums = [packed.add(f"{index}.onnx", Carved.of(graph(own))) for index, own in enumerate(OWN)]
    # 2048 bytes shared; 1024 and 3072 of their own, each at the beginning of a page
    assert (tmp_path / WEIGHTS).stat().st_size == 2 * PAGE_BYTES + 3072
    x = np.random.default_rng(3).standard_normal((2, 16)).astype(np.float32)
    for index, own in enumerate(OWN):
        path = tmp_path / f"{index}.onnx"
        assert hashlib.sha256(path.read_bytes()).hexdigest() == sums[index]
        assert path.stat().st_size < 1024
        onnx.checker.check_model(path)
        found = open_session(path, runtime, "fp32", 1).run({"x": x})["y"]
        np.testing.assert_allclose(found, x @ SHARED @ own, rtol=1e-4, atol=1e-4)
