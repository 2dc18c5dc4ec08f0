"""A tiny graph, and measurements made by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from instatune_deploy.config import TimingSettings
from instatune_deploy.devices.deployment import Deployment, Measurement
from instatune_deploy.devices.host import Host
from instatune_deploy.devices.latency import Limits, Timing
from instatune_deploy.supernet.architecture import Architecture

WEIGHTS = np.random.default_rng(0).standard_normal((8, 3)).astype(np.float32)
TABLE = np.arange(40, dtype=np.float32).reshape(5, 8) / 7
# short, and content with a host that changes its speed: what is tested is not this machine's rest
QUICK = TimingSettings(
    window_ms=1,
    min_runs_per_window=3,
    max_warmup_windows=2,
    max_windows=3,
    tolerance=0.99,
    reference_ms=1,
    max_drift=1000,
)


@pytest.fixture(scope="session")
def graph() -> bytes:
    """ONNX: ``logits = TABLE[ids] * mask @ WEIGHTS``; ids (1, 4) int64, mask (1, 4, 1) float32, logits (1, 4, 3)."""
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("Mul", ["rows", "mask"], ["kept"]),
        helper.make_node("MatMul", ["kept", "weights"], ["product"]),
        helper.make_node("Identity", ["product"], ["logits"]),
    ]
    inputs = [
        helper.make_tensor_value_info("ids", TensorProto.INT64, [1, 4]),
        helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1, 4, 1]),
    ]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 4, 3])]
    constants = [numpy_helper.from_array(TABLE, "table"), numpy_helper.from_array(WEIGHTS, "weights")]
    body = helper.make_graph(nodes, "tiny", inputs, outputs, constants)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


@pytest.fixture
def inputs() -> dict[str, Any]:
    return {"ids": np.array([[0, 4, 2, 2]]), "mask": np.array([1, 1, 0.5, 0], np.float32).reshape(1, 4, 1)}


@pytest.fixture
def logits(inputs: dict[str, Any]) -> Any:
    """What the graph computes, by numpy."""
    return (TABLE[inputs["ids"]] * inputs["mask"]) @ WEIGHTS


@pytest.fixture
def host() -> Host:
    return Host("x86_64", "A CPU", frozenset({"sse2", "avx2", "fma"}), cores=4, memory_bytes=8 << 30, os="Linux 6.1")


TIMING = Timing(
    p50_ms=5.0,
    p90_ms=6.0,
    p99_ms=7.0,
    mean_ms=5.25,
    max_ms=8.5,
    spread=0.1,
    count=60,
    windows=3,
    stable=True,
    involuntary_switches=2,
    limits={"p50": Limits(4.9, 5.1), "p90": Limits(5.8, 6.3), "p99": Limits(6.5, None)},
)


@pytest.fixture
def make_measurement() -> Callable[..., Measurement]:
    def make(
        layers: int = 2, device: str = "xeon-cpu", runtime: str = "onnxruntime", stable: bool = True, **changes: Any
    ) -> Measurement:
        architecture = Architecture(tuple(range(layers)), (4,) * layers, (16,) * layers)
        made = Measurement(
            deployment=Deployment(architecture, runtime, "fp32", threads=2, batch_size=1, sequence_length=128),
            device=device,
            graph_hash="a" * 64,
            size_bytes=1234,
            host="0123456789abcdef",
            versions={runtime: "1.31.1"},
            protocol={"window_ms": 100.0},
            timing=replace(TIMING, stable=stable),
            circumstances={"started": "2026-01-01T00:00:00.000+00:00", "load_before": 0.5},
        )
        return replace(made, **changes)

    return make
