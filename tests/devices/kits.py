"""A kit made by hand: a plan of three items with tiny graphs, and results without any measuring."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from instatune_deploy.config import TimingSettings
from instatune_deploy.devices.host_facts import host_facts
from instatune_deploy.devices.plan import ALL_CORES, Item, Plan, plan_path

RULES = TimingSettings(window_ms=1, min_runs_per_window=3, max_warmup_windows=2, tolerance=0.99, reference_ms=1)
THREADS = (1, 2, ALL_CORES)
TIMING: dict[str, Any] = {
    "p50_ms": 5.0,
    "p90_ms": 6.0,
    "p99_ms": 7.0,
    "mean_ms": 5.25,
    "max_ms": 8.5,
    "spread": 0.1,
    "count": 60,
    "windows": 3,
    "stable": True,
    "involuntary_switches": 2,
    "limits": {name: {"lower_ms": 4.0, "upper_ms": 9.0} for name in ("p50", "p90", "p99")},
    "thrown": 0,
    "reference_ms": 2.0,
    "nominal_ms": 2.0,
    "seconds": 1.5,
    "timed_seconds": 1.0,
}


def deployment(threads: int, image_size: int | None = None) -> dict[str, Any]:
    architecture = {"layers": [0, 1], "heads": [4, 4], "mlp_widths": [16, 16]}
    return {
        "architecture": architecture if image_size is None else {**architecture, "image_size": image_size},
        "runtime": "onnxruntime",
        "precision": "fp32",
        "threads": threads,
        "batch_size": 1,
        "sequence_length": 4,
        "provider": "cpu",
    }


def write_kit(
    folder: Path, graph: bytes, inputs: dict[str, Any], reference: bytes, image_sizes: dict[int, int] | None = None
) -> Plan:
    """The same graph on one thread, on two and on every core; what the folder of an unpacked kit holds.

    image_sizes: by number of threads, that of its architecture; the inputs of each size are in a file of their own
    """
    sizes = image_sizes or {}
    (folder / "graphs").mkdir(parents=True)
    (folder / "graphs" / "0001.onnx").write_bytes(graph)
    (folder / "reference.onnx").write_bytes(reference)
    files = ["inputs.npz", *(f"inputs-{size}.npz" for size in dict.fromkeys(sizes.values()))]
    for name in files:
        np.savez(folder / name, **inputs)
    sums = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in (*files, "reference.onnx")}
    sha256 = hashlib.sha256(graph).hexdigest()
    items = tuple(
        Item("graphs/0001.onnx", "a" * 64, sha256, len(graph), deployment(threads, sizes.get(threads))) for threads in THREADS
    )
    plan = Plan("0.1.0", "far-cpu", RULES.model_dump(), sums, items)
    (folder / "plan.json").write_text(plan.to_text(), encoding="utf-8")
    return plan


def keep(plan: Plan, work: Path) -> None:
    """As the work folder that made the kit has it."""
    plan_path(work, plan.digest).parent.mkdir(parents=True, exist_ok=True)
    plan_path(work, plan.digest).write_text(plan.to_text(), encoding="utf-8")


def results(plan: Plan, cores: int = 4) -> dict[str, Any]:
    """All of the plan measured on a device of so many cores, each with `TIMING`; a value that a test may change."""
    items = [
        {
            "graph_hash": item.graph_hash,
            "sha256": item.sha256,
            "size_bytes": item.size_bytes,
            "deployment": item.deployment,
            "timing": TIMING,
            "why": None,
            "version": "1.23.2",
            "circumstances": {"started": "2026-01-01T00:00:00.000+00:00"},
        }
        for item in plan.on(cores)
    ]
    runs = [list(item.run) for item in plan.on(cores)]
    value = {
        "schema_version": 1,
        "made_by": plan.made_by,
        "plan": plan.digest,
        "device": plan.device,
        "host": {**host_facts(), "cores": cores, "machine": "aarch64", "board": "Raspberry Pi 5", "cpu_flags": ["asimd"]},
        "rules": plan.rules,
        "references": [{"run": run, "version": "1.23.2", "nominal_ms": 2.0, "why": None} for run in runs],
        "items": items,
    }
    copied: dict[str, Any] = json.loads(json.dumps(value))
    return copied
