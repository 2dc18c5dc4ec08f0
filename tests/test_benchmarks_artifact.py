"""The artifact's benchmarks: what they make of what was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks.artifact import peers, promise, startup
from benchmarks.profile.runtimes import Contender
from instatune_deploy.devices.runs import Run


def test_the_command_line_is_really_started(tmp_path: Path) -> None:
    done = CliRunner().invoke(startup.main, ["--quick", "--results", str(tmp_path)])
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "artifact-startup.json").read_text(encoding="utf-8"))
    assert 0 < found["summary"]["help_seconds"] < 60
    assert [row["command"] for row in found["rows"]][1] == "instatune-deploy --help"


def test_budgets_lie_evenly_between_the_smallest_and_the_full_network() -> None:
    assert promise.spread(1.0, 20.8, 3) == ["1.30ms", "5.20ms", "20.80ms"]  # four times as much each
    assert promise.spread(10.0, 5.0, 2) == ["13.00ms", "13.00ms"]
    assert promise.targets_of("a", ["1ms", "2ms"])[1] == {"device": "a", "budget": "2ms", "name": "a-2"}


def test_promises_are_counted() -> None:
    def row(kept: str, promised: float | None = None, anew: float | None = None) -> dict[str, Any]:
        return {"kept": kept, "promised ms": promised, "anew ms": anew}

    found = promise.summarised([row("yes", 10.0, 9.9), row("no", 10.0, 11.0), row("not believed", 5.0), row("no")])
    assert found == {
        "kept": 1,
        "of": 4,
        "max_relative_error": 0.1,
        "median_relative_error": 0.055,
        "within_5_percent": 1,
    }
    assert "why" in promise.summarised([row("no")])


def contender(network: str, run: tuple[str, str], ms: list[float], size: int, ours: bool) -> Contender:
    made_by = "instatune-deploy" if ours else "another"
    return Contender(network, made_by, Run(*run, 2), Path("graph"), size, ours=ours, latencies_ms=ms)


def test_the_best_files_are_compared_where_ours_do_worst() -> None:
    fp32, int8, dynamic = ("openvino", "fp32"), ("openvino", "int8"), ("onnxruntime", "int8-dynamic")
    found = peers.summarised(
        [
            contender("a", fp32, [8.0, 9.0, 10.0], 90, True),
            contender("a", int8, [3.0], 25, True),
            contender("a", fp32, [10.0], 100, False),
            contender("a", dynamic, [4.0], 20, False),
            contender("a", int8, [], 1, False),  # never believed
            contender("b", fp32, [6.0], 50, True),
            contender("b", fp32, [5.0], 50, False),
        ]
    )
    assert found["latency_ratio_to_best_peer"] == 1.2  # of b; of a it is 3 / 4
    assert found["size_ratio_to_best_peer"] == 1.25  # of a: 25 / 20
    assert found["median_latency_ratio"] == pytest.approx(0.975)
    assert found["latency_ratio_by_precision"] == {"any": 1.2, "fp32": 1.2, "bf16": None, "int8": 0.75}
    assert found["size_ratio_by_precision"] == {"any": 1.25, "fp32": 1.0, "bf16": None, "int8": 1.25}
    assert peers.summarised([contender("a", fp32, [1.0], 1, True)])["why"].startswith("no peers")
