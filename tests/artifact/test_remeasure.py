from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from instatune_deploy.artifact import remeasure as module
from instatune_deploy.artifact.graph_files import GRAPH_FILES
from instatune_deploy.artifact.remeasure import remeasure
from instatune_deploy.devices.deployment import Deployment
from instatune_deploy.devices.host import this_host
from instatune_deploy.devices.probe import Outcome
from instatune_deploy.devices.process import MeasuringProcess
from instatune_deploy.devices.runtimes.registry import version
from instatune_deploy.errors import BadInput, UserError, VerificationFailed

from .tiny import QUICK, RUNTIMES, make_artifact, timing, tiny_deployment


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_fresh_process_measures_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: str) -> None:
    folder = make_artifact(tmp_path / "out", runtime)
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    measured = remeasure(folder, tiny_deployment(runtime), "generic-cpu", QUICK)
    assert measured.deployment == tiny_deployment(runtime)
    assert measured.device == "generic-cpu"
    assert measured.host == this_host().fingerprint
    assert measured.protocol == QUICK.model_dump()
    assert measured.versions == {runtime: version(runtime)}
    assert measured.graph_hash == GRAPH_FILES[runtime].hash(folder)
    assert measured.size_bytes == GRAPH_FILES[runtime].size_bytes(folder)
    assert measured.timing is not None
    assert measured.timing.count >= 30, "three windows of at least ten runs"
    assert 0 < measured.timing.p50_ms <= measured.timing.p90_ms
    # as the clock gave them, and watched
    assert (measured.timing.nominal_ms, measured.timing.drift) == (None, 1.0)
    assert measured.timing.reference_ms is not None
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_relative_folder_and_a_misleading_file_in_the_current_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_artifact(tmp_path / "out")
    (tmp_path / "numpy.py").write_text("raise SystemExit('imported from the current folder')")
    monkeypatch.chdir(tmp_path)
    assert remeasure(Path("out"), tiny_deployment("onnxruntime"), "generic-cpu", QUICK).timing is not None


def _deployment(**changes: Any) -> Deployment:
    return replace(tiny_deployment("onnxruntime"), **changes)


def _leave(folder: Path) -> None:
    pass


def _remove_graph(folder: Path) -> None:
    (folder / "model.onnx").unlink()


def _spoil_graph(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"none")


def _spoil_samples(folder: Path) -> None:
    (folder / "samples.npz").write_bytes(b"none")


CANNOT = "hardware profile 'generic-cpu' cannot be served by this host: "


@pytest.mark.parametrize(
    ("spoil", "changes", "message", "kind"),
    [
        (_leave, {"threads": 4096}, CANNOT + "it runs 4096 threads", BadInput),
        (_leave, {"precision": "fp16", "provider": "cuda"}, CANNOT + "onnxruntime cuda fp16, 1 thread needs ", BadInput),
        (_leave, {"precision": "bf16"}, "onnxruntime does not run bf16 on cpu", BadInput),
        (_leave, {"provider": "npu"}, "onnxruntime has no provider 'npu'", BadInput),
        (_leave, {"sequence_length": 100_000, "threads": 4096}, CANNOT + "it runs 4096 threads", BadInput),
        (_remove_graph, {}, "model.onnx: cannot be read: no such file or directory", BadInput),
        (_spoil_graph, {}, "model.onnx: ONNX Runtime cannot load it: ", BadInput),
        (_spoil_samples, {}, "samples.npz: not the samples of an artifact: ", VerificationFailed),
    ],
)
def test_what_is_wrong(
    tmp_path: Path, spoil: Callable[[Path], None], changes: dict[str, Any], message: str, kind: type[UserError]
) -> None:
    folder = make_artifact(tmp_path / "out")
    spoil(folder)
    with pytest.raises(kind) as caught:
        remeasure(folder, _deployment(**changes), "generic-cpu", QUICK)
    assert message in caught.value.message
    assert "\n" not in caught.value.message


def _says(monkeypatch: pytest.MonkeyPatch, outcome: Outcome) -> list[tuple[Any, ...]]:
    """The process answers with ``outcome``; what it was asked."""
    asked: list[tuple[Any, ...]] = []

    class Process(MeasuringProcess):
        def measure(self, *request: Any) -> Outcome:
            asked.append(request)
            return outcome

    monkeypatch.setattr(module, "MeasuringProcess", Process)
    return asked


def test_a_process_that_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_artifact(tmp_path / "out")
    _says(monkeypatch, Outcome(None, "the measuring process was killed", "1.0", {}))
    with pytest.raises(VerificationFailed) as caught:
        remeasure(folder, _deployment(), "generic-cpu", QUICK)
    assert caught.value.message == f"{folder}: the measuring process was killed"


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(timing(4.0), None, "1.0", {"load_before": 0.5}),
        Outcome(timing(4.0, stable=False), "a neighbour", "1.0", {"load_before": 0.5}),
        Outcome(None, "it could not be run: out of memory", "1.0", {"load_before": 0.5}),
    ],
    ids=["believed", "noisy", "no memory"],
)
def test_the_measurement_says_what_the_process_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcome: Outcome) -> None:
    folder = make_artifact(tmp_path / "out")
    asked = _says(monkeypatch, outcome)
    made = remeasure(folder, _deployment(), "generic-cpu", QUICK)
    assert (made.timing, made.why, made.circumstances) == (outcome.timing, outcome.why, outcome.circumstances)
    assert made.versions == {"onnxruntime": "1.0"}
    assert made.believed is (outcome.why is None)
    ((graph, inputs, run, rules, nominal_ms),) = asked
    assert (graph, run, rules, nominal_ms) == (folder / "model.onnx", _deployment().run, QUICK, None)
    assert {name: values.shape for name, values in inputs.items()} == {"input_ids": (1, 8), "attention_mask": (1, 8)}
