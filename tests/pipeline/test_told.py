from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from instatune_deploy.budget import Budget
from instatune_deploy.devices import energy, memory
from instatune_deploy.devices.runs import Run
from instatune_deploy.errors import BadInput
from instatune_deploy.pipeline.told import check_told, told_by_hosts

CPU: Any = SimpleNamespace(name="cpu", runs=(Run("openvino", "fp32", 1),))
GPU: Any = SimpleNamespace(name="gpu", runs=(Run("onnxruntime", "fp16", 1, "cuda"),))


def test_what_every_measurement_must_have() -> None:
    assert told_by_hosts(["latency", "accuracy"], Budget(20.0, size_bytes=1)) == ()
    assert told_by_hosts(["latency", "accuracy"], Budget(memory_bytes=1)) == ("memory_bytes",)
    assert told_by_hosts(["energy", "memory"], None) == ("memory_bytes", "energy_mj")


def test_a_host_that_does_not_tell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "FORGET", tmp_path / "no folder" / "none")
    monkeypatch.setattr(energy, "counted", lambda: False)
    check_told((), [CPU, GPU])
    with pytest.raises(BadInput, match="memory: only Linux tells how much a process takes"):
        check_told(("memory_bytes",), [CPU])
    with pytest.raises(BadInput, match="energy: this host does not tell it; no counter below /sys/class/powercap can be read"):
        check_told(("energy_mj",), [CPU])
    monkeypatch.setattr(energy, "counted", lambda: True)
    check_told(("energy_mj",), [CPU])
    with pytest.raises(BadInput, match="say nothing of onnxruntime cuda fp16, 1 thread of device"):
        check_told(("energy_mj",), [CPU, GPU])
