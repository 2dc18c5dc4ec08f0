"""A tiny network as a graph, a made-up tokenizer, and artifacts of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from instatune_deploy.artifact.manifest import Accuracy, Baseline, Budget, Latency, Manifest, Prediction, write_manifest
from instatune_deploy.artifact.parity import Parity
from instatune_deploy.artifact.samples import Samples
from instatune_deploy.artifact.write import Draft, draft
from instatune_deploy.config import TimingSettings
from instatune_deploy.devices.deployment import Deployment, Measurement
from instatune_deploy.devices.host import this_host
from instatune_deploy.devices.latency import Limits, Timing
from instatune_deploy.files import read_json
from instatune_deploy.supernet.architecture import Architecture

TOKENS = 8
TABLE = np.random.default_rng(0).standard_normal((50, 16)).astype(np.float32)
HEAD = np.random.default_rng(1).standard_normal((16, 3)).astype(np.float32)
# short, and content with any three windows: what is tested is not this machine's rest
QUICK = TimingSettings(
    window_ms=1,
    min_runs_per_window=10,
    max_warmup_windows=2,
    max_windows=10,
    tolerance=0.99,
    reference_ms=1,
    max_drift=1000,
)
RUNTIMES = ("onnxruntime", "openvino")


def tiny_graph(batch_size: int = 1) -> onnx.ModelProto:
    """``logits = mean over tokens of TABLE[input_ids] * attention_mask, times HEAD``."""
    shape = [batch_size, TOKENS]
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
        helper.make_node("Unsqueeze", ["attention_mask", "last"], ["column"]),
        helper.make_node("Cast", ["column"], ["weights"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["rows", "weights"], ["kept"]),
        helper.make_node("ReduceMean", ["kept", "tokens"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "head"], ["logits"]),
    ]
    constants = {"table": TABLE, "head": HEAD, "last": np.array([2]), "tokens": np.array([1])}
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name in ("input_ids", "attention_mask")],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch_size, 3])],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def tiny_samples(rows: int = 5) -> Samples:
    """The same by numpy."""
    generator = np.random.default_rng(2)
    ids = generator.integers(0, 50, (rows, TOKENS))
    mask = (np.arange(TOKENS) < generator.integers(1, TOKENS + 1, (rows, 1))).astype(np.int64)
    logits = (TABLE[ids] * mask[..., None].astype(np.float32)).mean(axis=1) @ HEAD
    return Samples({"input_ids": ids, "attention_mask": mask}, logits)


def save_tokenizer(folder: Path) -> None:
    """Two small files, as a tokenizer's are."""
    (folder / "tokenizer.json").write_text('{"model": "made up"}', encoding="utf-8")
    (folder / "tokenizer_config.json").write_text("{}", encoding="utf-8")


def timing(p90_ms: float, stable: bool = True) -> Timing:
    """A timing with p50 half and p99 twice of ``p90_ms``, upper limit of p90 a tenth above it."""
    limits = {
        "p50": Limits(p90_ms * 0.4, p90_ms * 0.6),
        "p90": Limits(p90_ms * 0.9, p90_ms * 1.1),
        "p99": Limits(p90_ms, None),
    }
    return Timing(p90_ms / 2, p90_ms, p90_ms * 2, p90_ms / 2, p90_ms * 2, 0.1, 60, 3, stable, 0, limits)


def tiny_deployment(runtime: str, batch_size: int = 1) -> Deployment:
    return Deployment(Architecture((0, 2), (2, 1), (16, 8)), runtime, "fp32", 1, batch_size, TOKENS)


def tiny_manifest(runtime: str = "onnxruntime", **changes: Any) -> Manifest:
    """A whole manifest: p90 of 4 ms promised under a budget of 20 ms."""
    values: dict[str, Any] = {
        "created": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "task": "text-classification",
        "base_model": "a/model",
        "labels": ["negative", "neutral", "positive"],
        "device": "generic-cpu",
        "budget": Budget(text="20ms", statistic="p90", limit_ms=20),
        "runtime": runtime,
        "precision": "fp32",
        "threads": 1,
        "batch_size": 1,
        "input_shapes": {"input_ids": [1, TOKENS], "attention_mask": [1, TOKENS]},
        "architecture": Architecture((0, 2), (2, 1), (16, 8)),
        "latency_ms": Latency.of(timing(4.0), "p90"),
        "accuracy": Accuracy(validation=0.875, test=None),
        "baseline": Baseline(latency_ms=8.0, accuracy=0.9, runtime="openvino", precision="fp32"),
        "predicted": Prediction(latency_ms=4.25, accuracy=0.87),
        "parity": Parity(1e-6, 5, 1e-4, 0),
        "macs": 48,
        "parameters": 848,
        "size_bytes": 3456,
        "memory_bytes": 70_000_000,
        "host": this_host().describe(),
        "versions": {"python": "3.11.9"},
        "seed": 0,
        "timing": QUICK,
        "keys": {"finetune": "a" * 64},
    }
    return Manifest(**{**values, **changes})


def fill(artifact: Draft, batch_size: int = 1) -> None:
    """Everything but the manifest."""
    artifact.add_graph(tiny_graph(batch_size))
    artifact.add_preprocessing({"model_type": "bert"}, save_tokenizer)
    artifact.add_samples(tiny_samples())


def make_artifact(target: Path, runtime: str = "onnxruntime", **changes: Any) -> Path:
    """A finished artifact."""
    with draft(target, tiny_deployment(runtime)) as artifact:
        fill(artifact)
        artifact.finish(tiny_manifest(runtime, **changes))
    return target


def reseal(folder: Path, **changes: Any) -> None:
    """Write the manifest anew with ``changes``, with a right checksum: what only intent can do."""
    value = read_json(folder / "manifest.json")
    write_manifest(folder, Manifest.model_validate({**value, **changes}))


def edit(folder: Path, **changes: Any) -> None:
    """Change the manifest's text as an editor would."""
    path = folder / "manifest.json"
    path.write_text(json.dumps({**read_json(path), **changes}), encoding="utf-8")


@dataclass
class FakeRemeasure:
    """Stands in for the fresh process: says ``p90_ms`` and remembers what it was asked."""

    p90_ms: float = 4.0
    stable: bool = True
    why: str | None = None
    runs: bool = True
    asked: tuple[Any, ...] | None = None

    def __call__(self, folder: Path, deployment: Deployment, device: str, settings: TimingSettings) -> Measurement:
        self.asked = (folder, deployment, device, settings)
        result = timing(self.p90_ms, self.stable) if self.runs else None
        return Measurement(
            deployment, device, "0" * 64, 1, this_host().fingerprint, {}, settings.model_dump(), result, {}, self.why
        )
