from __future__ import annotations

import io
import json
import subprocess
import sys
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
from instatune_deploy.errors import BadInput, UserError, VerificationFailed

from .tiny import QUICK, RUNTIMES, make_artifact, tiny_deployment


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_fresh_process_measures_the_files(tmp_path: Path, runtime: str) -> None:
    folder = make_artifact(tmp_path / "out", runtime)
    measured = remeasure(folder, tiny_deployment(runtime), "generic-cpu", QUICK)
    assert measured.deployment == tiny_deployment(runtime)
    assert measured.device == "generic-cpu"
    assert measured.host == this_host().fingerprint
    assert measured.protocol == QUICK.model_dump()
    assert measured.graph_hash == GRAPH_FILES[runtime].hash(folder)
    assert measured.size_bytes == GRAPH_FILES[runtime].size_bytes(folder)
    assert measured.timing is not None
    assert measured.timing.count >= 30, "three windows of at least ten runs"
    assert 0 < measured.timing.p50_ms <= measured.timing.p90_ms


def test_a_relative_folder_and_a_misleading_file_in_the_current_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_artifact(tmp_path / "out")
    (tmp_path / "numpy.py").write_text("raise SystemExit('imported from the current folder')")
    monkeypatch.chdir(tmp_path)
    assert remeasure(Path("out"), tiny_deployment("onnxruntime"), "generic-cpu", QUICK).timing is not None


def test_the_process_imports_no_training_library(tmp_path: Path) -> None:
    folder = make_artifact(tmp_path / "out")
    request = module.Request(folder=folder, deployment=tiny_deployment("onnxruntime"), device="generic-cpu", timing=QUICK)
    code = f"import sys; from {module.MODULE} import main; main(); assert not {{'torch', 'transformers'}} & set(sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], input=request.model_dump_json(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "measurement" in json.loads(done.stdout)


def _deployment(precision: str = "fp32", threads: int = 1) -> Deployment:
    return replace(tiny_deployment("onnxruntime"), precision=precision, threads=threads)


def test_what_this_host_cannot_run_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"'generic-cpu' cannot be served by this host: it runs 4096 threads"):
        remeasure(make_artifact(tmp_path / "out"), _deployment(threads=4096), "generic-cpu", QUICK)


def _remove_graph(folder: Path) -> None:
    (folder / "model.onnx").unlink()


def _spoil_samples(folder: Path) -> None:
    (folder / "samples.npz").write_bytes(b"none")


@pytest.mark.parametrize(
    ("spoil", "precision", "message", "exit_code"),
    [
        (_remove_graph, "fp32", "model.onnx: cannot be read: no such file or directory", 2),
        (_spoil_samples, "fp32", "samples.npz: not the samples of an artifact: ", 4),
        (lambda folder: None, "bf16", "onnxruntime does not run bf16 here", 2),
    ],
)
def test_the_process_answers_with_what_is_wrong(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], None],
    precision: str,
    message: str,
    exit_code: int,
) -> None:
    folder = make_artifact(tmp_path / "out")
    spoil(folder)
    request = module.Request(folder=folder, deployment=_deployment(precision), device="generic-cpu", timing=QUICK)
    monkeypatch.setattr(sys, "stdin", io.StringIO(request.model_dump_json()))
    module.main()
    answer = json.loads(capsys.readouterr().out)
    assert message in answer["error"]
    assert answer["exit_code"] == exit_code


@pytest.mark.parametrize(("exit_code", "kind"), [(2, BadInput), (4, VerificationFailed)])
def test_the_answer_becomes_the_error_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exit_code: int, kind: type[UserError]
) -> None:
    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 0, json.dumps({"error": "what is wrong", "exit_code": exit_code}), "")

    monkeypatch.setattr(module.subprocess, "run", run)
    with pytest.raises(kind, match="what is wrong"):
        remeasure(tmp_path, _deployment(), "generic-cpu", QUICK)


@pytest.mark.parametrize(
    ("returncode", "stderr", "message"),
    [
        (-9, "", "was killed by signal 9: it said nothing"),
        (1, "Traceback\nMemoryError: 3 TiB", "ended with code 1: MemoryError: 3 TiB"),
        (0, "", "ended with code 0"),
    ],
)
def test_a_process_that_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, returncode: int, stderr: str, message: str) -> None:
    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, returncode, "a library's remark\n", stderr)

    monkeypatch.setattr(module.subprocess, "run", run)
    with pytest.raises(VerificationFailed, match=message) as raised:
        remeasure(tmp_path, tiny_deployment("onnxruntime"), "generic-cpu", QUICK)
    assert "\n" not in raised.value.message
