from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from instatune_deploy.artifact import checks as module
from instatune_deploy.artifact.checks import Check, Report
from instatune_deploy.artifact.graph_files import GRAPH_FILES
from instatune_deploy.artifact.manifest import Budget, FileEntry, read_manifest
from instatune_deploy.artifact.samples import Samples
from instatune_deploy.artifact.verify import _check_device, verify, verify_path
from instatune_deploy.cli import main
from instatune_deploy.config import ProfileSettings, RunSettings
from instatune_deploy.devices.host import this_host
from instatune_deploy.devices.profile import Device, resolve
from instatune_deploy.digests import file_sha256
from instatune_deploy.errors import BadInput, TooNoisy, VerificationFailed
from instatune_deploy.supernet.architecture import Architecture

from .tiny import QUICK, FakeRemeasure, edit, make_artifact, reseal, tiny_deployment, tiny_manifest

FILES = [
    "model.onnx",
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "samples.npz",
    "verify.py",
    "verify.pyz",
    "README.md",
]
PATIENT = QUICK.model_copy(update={"max_windows": 40})
IR_FILES = ["openvino_model.xml", "openvino_model.bin"]


def failed(report: Report) -> list[str]:
    return [check.name for check in report.checks if check.ok is False]


def test_a_good_artifact_passes_every_check(artifact: Path) -> None:
    remeasure = FakeRemeasure(p90_ms=19.9)
    report = verify(artifact, remeasure)
    assert report.ok
    report.raise_if_failed()
    names = [check.name for check in report.checks]
    assert names == [*(f"file {name}" for name in read_manifest(artifact).files), "parity", "budget"]
    manifest = read_manifest(artifact)
    assert remeasure.asked == (artifact, tiny_deployment(manifest.runtime), "generic-cpu", QUICK), "as the manifest says"
    assert report.checks[-1].detail == "p90 19.9 ms keeps the budget of 20 ms (promised: 4 ms)"
    assert report.to_json()["checks"][-1] == {"name": "budget", "ok": True, "detail": report.checks[-1].detail}


def test_every_percentile_of_the_budget_is_looked_at(tmp_path: Path) -> None:
    """Measured anew: p50 half and p99 twice the p90."""
    budget = Budget(text="p90:20ms,p99:30ms", statistic="p90", limit_ms=20, also_ms={"p99": 30})
    made = make_artifact(tmp_path / "made", budget=budget)
    assert verify(made, FakeRemeasure(p90_ms=14.0)).ok
    report = verify(made, FakeRemeasure(p90_ms=16.0))
    assert failed(report) == ["budget"]
    assert report.checks[-1].detail == (
        "p90 16 ms keeps the budget of 20 ms (promised: 4 ms); p99 32 ms exceeds the budget of 30 ms (promised: 8 ms)"
    )


def device(name: str = "generic-cpu", **changes: Any) -> Device:
    runs = [RunSettings(runtime="onnxruntime", precision="fp32"), RunSettings(runtime="openvino", precision="fp32")]
    settings = {"description": "any", "runs": runs, "threads": 1, "timing": PATIENT, **changes}
    return resolve(ProfileSettings(name=name, **settings), this_host())


def test_a_device_is_checked_first_and_its_protocol_used(artifact: Path) -> None:
    remeasure = FakeRemeasure(p90_ms=19.9)
    report = verify(artifact, remeasure, device())
    assert report.ok
    assert report.checks[0] == Check("device", True, "this host is 'generic-cpu'")
    assert remeasure.asked == (artifact, tiny_deployment(read_manifest(artifact).runtime), "generic-cpu", PATIENT)
    report = verify(artifact, remeasure, device("another"))
    assert report.ok
    assert report.checks[0].detail == "this host is 'another'; it was made for 'generic-cpu'"


def test_the_size_of_images_is_the_networks_own() -> None:
    """Four tokens of a profile are of texts; an image of 16 x 12 px in patches of 4 px has 13."""
    manifest = tiny_manifest(input_shapes={"pixel_values": [1, 3, 16, 12]}, sequence_length=13)
    assert _check_device(manifest, device(sequence_length=4)).ok
    said = _check_device(manifest, device(batch_size=2)).detail
    assert said == "'generic-cpu' has batch 2, and the artifact batch 1, 16 x 12 px"
    assert _check_device(manifest, device(image_size=16)).ok  # it is given none that are larger
    said = _check_device(manifest, device(image_size=12)).detail
    assert said == "'generic-cpu' has batch 1, 12 x 12 px, and the artifact batch 1, 16 x 12 px"


def test_images_of_a_graph_with_its_preprocessing_inside() -> None:
    """What it takes says nothing of the network behind."""
    taken = {"input_shapes": {"images": [1, 40, 60, 3]}, "input_types": {"images": "uint8"}, "sequence_length": 13}
    assert _check_device(tiny_manifest(**taken), device(image_size=12)).ok
    said = _check_device(tiny_manifest(**taken), device(batch_size=2)).detail
    assert said == "'generic-cpu' has batch 2, and the artifact batch 1, 40 x 60 px"
    searched = tiny_manifest(**taken, architecture=Architecture((0, 2), (2, 1), (16, 8), 16))
    assert not _check_device(searched, device(image_size=12)).ok


def test_a_device_measures_enough_runs_for_the_budgets_percentile(tmp_path: Path) -> None:
    """Of p99 at least 300 runs: with fewer nothing could be said of it."""
    budget = Budget(text="p99:40ms", statistic="p99", limit_ms=40.0)
    remeasure = FakeRemeasure(p90_ms=1.0)
    verify(make_artifact(tmp_path / "artifact", budget=budget), remeasure, device())
    assert remeasure.asked is not None
    assert remeasure.asked[-1].min_runs_per_window == 100


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"batch_size": 2}, "'other' has batch 2, 128 tokens, and the artifact batch 1, 8 tokens; it was made for 'generic-cpu'"),
        ({"sequence_length": 4}, "'other' has batch 1, 4 tokens, and the artifact batch 1, 8 tokens; it was made for "),
        ({"runs": [RunSettings(runtime="onnxruntime", precision="int8")]}, "'other' runs onnxruntime int8, 1 thread, and the "),
    ],
)
def test_a_device_that_does_not_run_it_so(onnx_artifact: Path, changes: dict[str, Any], says: str) -> None:
    remeasure = FakeRemeasure(p90_ms=1.0)
    report = verify(onnx_artifact, remeasure, device("other", **changes))
    assert failed(report) == ["device"]
    assert report.checks[0].detail.startswith(says)
    assert remeasure.asked is None  # nothing is measured that would prove nothing
    with pytest.raises(VerificationFailed, match="device: 'other' "):
        report.raise_if_failed()


def test_the_budget_is_really_measured_again(onnx_artifact: Path) -> None:
    """In a process of its own; on a busy machine it may say that it cannot say, never that 20 ms were not enough."""
    budget = verify(onnx_artifact).checks[-1]
    assert budget.name == "budget"
    assert budget.ok is not False
    assert ("keeps the budget of 20 ms" in budget.detail) is (budget.ok is True)


def _flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0x10
    path.write_bytes(content)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


TAMPERINGS: list[tuple[Any, str]] = [
    (lambda path: _flip(path, 0), "its content was changed"),
    (lambda path: _flip(path, -1), "its content was changed"),
    (lambda path: _flip(path, path.stat().st_size // 2), "its content was changed"),
    (_truncate, "truncated: "),
    (lambda path: path.write_bytes(b""), "truncated: 0 bytes instead of "),
    (lambda path: path.write_bytes(path.read_bytes() + b"\0"), "longer than it was: "),
    (Path.unlink, "it is missing"),
]


@pytest.mark.parametrize("name", [*FILES, *IR_FILES])
def test_every_tampering_with_every_file_is_named(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "check_parity", None)  # a graph that is not the one written is never loaded
    runtime = "openvino" if name in IR_FILES else "onnxruntime"
    folder = make_artifact(tmp_path / "out", runtime)
    content = (folder / name).read_bytes()
    for tamper, message in TAMPERINGS:
        tamper(folder / name)
        report = verify(folder)
        assert failed(report) == [f"file {name}"]
        assert not report.ok
        with pytest.raises(VerificationFailed, match=rf"out: file {name}: {message}") as raised:
            report.raise_if_failed()
        assert raised.value.exit_code == 4
        (folder / name).write_bytes(content)


def test_any_changed_byte_of_the_manifest_is_found(onnx_artifact: Path) -> None:
    path = onnx_artifact / "manifest.json"
    content = path.read_bytes()
    # every byte but those between the values, which mean nothing
    places = [at for at, byte in enumerate(content) if byte not in b" \n"]
    for at in places[:: len(places) // 150]:
        _flip(path, at)
        with pytest.raises(VerificationFailed):
            verify(onnx_artifact)
        path.write_bytes(content)


def test_a_raised_limit_is_found(onnx_artifact: Path) -> None:
    edit(onnx_artifact, budget={"text": "90ms", "statistic": "p90", "limit_ms": 90.0})
    with pytest.raises(VerificationFailed, match="edited"):
        verify(onnx_artifact)


def test_a_forged_promise_breaks_when_it_is_measured(onnx_artifact: Path) -> None:
    """Checksums are no signature: who computes them anew is found by what was promised."""
    faster = {"p50": 1.0, "p90": 2.0, "p99": 3.0, "count": 60, "upper": 2.1, "stable": True}
    reseal(onnx_artifact, latency_ms=faster, budget={"text": "2ms", "statistic": "p90", "limit_ms": 2.0})
    with pytest.raises(VerificationFailed, match=r"budget: p90 4 ms exceeds the budget of 2 ms \(promised: 2 ms\)") as raised:
        verify(onnx_artifact, FakeRemeasure(4.0)).raise_if_failed()
    assert raised.value.exit_code == 4


def test_a_budget_nobody_can_keep_fails_when_really_measured(onnx_artifact: Path) -> None:
    faster = {"p50": 1e-7, "p90": 1e-7, "p99": 1e-7, "count": 60, "upper": None, "stable": True}
    reseal(onnx_artifact, latency_ms=faster, budget={"text": "1e-6ms", "statistic": "p50", "limit_ms": 1e-6})
    budget = verify(onnx_artifact).checks[-1]
    assert budget.ok is not True
    assert "exceeds the budget of 1e-06 ms" in budget.detail or budget.ok is None


def test_the_budgets_own_statistic_counts(onnx_artifact: Path) -> None:
    reseal(onnx_artifact, budget={"text": "p99:20ms", "statistic": "p99", "limit_ms": 20.0})
    report = verify(onnx_artifact, FakeRemeasure(p90_ms=12.0))  # its p99 is 24
    assert failed(report) == ["budget"]
    assert "p99 24 ms exceeds" in report.checks[-1].detail


def test_exactly_the_limit_is_kept(onnx_artifact: Path) -> None:
    assert verify(onnx_artifact, FakeRemeasure(p90_ms=20.0)).ok


def test_no_budget_nothing_to_measure(tmp_path: Path) -> None:
    remeasure = FakeRemeasure()
    report = verify(make_artifact(tmp_path / "out", budget=None), remeasure)
    assert report.ok
    assert remeasure.asked is None


@pytest.mark.parametrize("remeasure", [FakeRemeasure(stable=False, why="the windows disagree"), FakeRemeasure(why="others ran")])
def test_a_noisy_host_cannot_say(onnx_artifact: Path, remeasure: FakeRemeasure) -> None:
    report = verify(onnx_artifact, remeasure)
    assert report.checks[-1].ok is None
    assert not report.ok
    with pytest.raises(TooNoisy, match=f"budget: this host is too noisy to say: {remeasure.why}") as raised:
        report.raise_if_failed()
    assert raised.value.exit_code == 5


def test_a_graph_that_stops_running(onnx_artifact: Path) -> None:
    with pytest.raises(VerificationFailed, match="budget: it could not be run: out of memory"):
        verify(onnx_artifact, FakeRemeasure(runs=False, why="it could not be run: out of memory")).raise_if_failed()


def test_an_artifact_from_another_host_says_so_and_is_measured(tmp_path: Path) -> None:
    host = {"fingerprint": "0" * 16, "cpu_model": "Another CPU", "cores": 64}
    folder = make_artifact(tmp_path / "out", host=host)
    budget = verify(folder, FakeRemeasure()).checks[-1]
    assert budget.ok
    assert budget.detail.endswith("; it was made for another host (Another CPU, 64 cores)")
    assert verify(folder, FakeRemeasure(p90_ms=30.0)).checks[-1].ok is False


def _reseal_files(folder: Path, **changes: FileEntry | None) -> None:
    files = {**read_manifest(folder).files, **changes}
    reseal(folder, files={name: entry.model_dump() for name, entry in files.items() if entry is not None})


def _entry(path: Path) -> FileEntry:
    return FileEntry(sha256=file_sha256(path), bytes=path.stat().st_size)


def test_other_logits_are_no_parity(artifact: Path) -> None:
    samples = Samples.read(artifact)
    Samples(samples.inputs, samples.logits + np.float32(0.01)).write(artifact)
    _reseal_files(artifact, **{"samples.npz": _entry(artifact / "samples.npz")})
    remeasure = FakeRemeasure()
    report = verify(artifact, remeasure)
    assert failed(report) == ["parity"]
    assert "differ by up to 0.01, more than the tolerance of 0.0001" in report.checks[-1].detail
    assert remeasure.asked is None, "what is another network needs no stop-watch"


def test_samples_of_another_shape(onnx_artifact: Path) -> None:
    samples = Samples.read(onnx_artifact)
    Samples({name: values[:, :4] for name, values in samples.inputs.items()}, samples.logits).write(onnx_artifact)
    _reseal_files(onnx_artifact, **{"samples.npz": _entry(onnx_artifact / "samples.npz")})
    assert failed(verify(onnx_artifact, FakeRemeasure())) == ["parity"]


@pytest.mark.parametrize("name", ["extra.bin", "sub/extra.bin", ".hidden"])
def test_a_file_the_manifest_does_not_know(onnx_artifact: Path, name: str) -> None:
    (onnx_artifact / name).parent.mkdir(exist_ok=True)
    (onnx_artifact / name).write_bytes(b"?")
    report = verify(onnx_artifact)
    assert failed(report) == [f"file '{name}'"]
    with pytest.raises(VerificationFailed, match="the manifest does not know it"):
        report.raise_if_failed()


@pytest.mark.parametrize(
    "name",
    [
        ".gitattributes",
        ".git/config",
        ".git",
        ".DS_Store",
        "samples/.DS_Store",
        ".cache/huggingface/download/model.onnx.metadata",
    ],
)
def test_what_git_the_hub_and_a_mac_leave_beside_is_passed_over(onnx_artifact: Path, name: str) -> None:
    (onnx_artifact / name).parent.mkdir(parents=True, exist_ok=True)
    (onnx_artifact / name).write_bytes(b"?")
    assert verify(onnx_artifact, FakeRemeasure()).ok


@pytest.mark.parametrize(
    "name",
    [
        ".gitattributes.py",
        "a/.git/config",
        ".cache/x",
        ".cache/huggingfaces/x",
        "a/__pycache__/x",
        "__pycache__/predict.cpython-311.pyc",  # Python would run it in the place of predict.py
    ],
)
def test_what_is_only_like_it_is_not(onnx_artifact: Path, name: str) -> None:
    (onnx_artifact / name).parent.mkdir(parents=True, exist_ok=True)
    (onnx_artifact / name).write_bytes(b"?")
    assert failed(verify(onnx_artifact)) == [f"file '{name}'"]


def test_the_size_is_that_of_the_files_whatever_the_manifest_says(artifact: Path) -> None:
    size = GRAPH_FILES[read_manifest(artifact).runtime].size_bytes(artifact)
    budget = {"text": "size", "statistic": "p90", "limit_ms": None}
    reseal(artifact, size_bytes=1, budget={**budget, "size_bytes": size})
    assert verify(artifact, FakeRemeasure()).ok
    reseal(artifact, size_bytes=1, budget={**budget, "size_bytes": size - 1})
    report = verify(artifact, FakeRemeasure())
    assert failed(report) == ["budget"]
    assert report.checks[-1].detail == f"its {size} bytes exceed its budget of {size - 1}"


def test_a_manifest_that_hides_the_graph(onnx_artifact: Path) -> None:
    _reseal_files(onnx_artifact, **{"model.onnx": None})
    (onnx_artifact / "model.onnx").unlink()
    report = verify(onnx_artifact)
    assert failed(report) == ["file model.onnx"]
    assert report.checks[-1].detail == "the manifest does not list it"


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "a/../../secret"])
def test_names_that_lead_outside_are_refused(onnx_artifact: Path, name: str) -> None:
    path = onnx_artifact / "manifest.json"
    text = path.read_text().replace('"tokenizer.json"', f'"{name}"')
    path.write_text(text)
    reseal_raw(path)
    with pytest.raises(VerificationFailed, match="is not the path of a file inside the artifact"):
        verify(onnx_artifact)


def reseal_raw(path: Path) -> None:
    """A right checksum over whatever the manifest says."""
    from instatune_deploy.digests import digest
    from instatune_deploy.files import read_json, write_json

    value = read_json(path)
    value.pop("sha256")
    write_json(path, {**value, "sha256": digest(value)})


def test_links_are_not_followed(onnx_artifact: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.json"
    (onnx_artifact / "tokenizer.json").rename(outside)
    (onnx_artifact / "tokenizer.json").symlink_to(outside)
    report = verify(onnx_artifact)
    assert failed(report) == ["file tokenizer.json"]
    assert "it is a link or a device" in next(check.detail for check in report.checks if not check.ok)


def test_a_linked_folder_and_a_pipe_are_named(onnx_artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (onnx_artifact / "linked").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(onnx_artifact / "pipe")
    assert failed(verify(onnx_artifact)) == ["file 'linked'", "file 'pipe'"]


def test_no_artifact_at_all(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such folder"):
        verify(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BadInput, match="not an artifact"):
        verify(tmp_path)


def packed(artifact: Path, prefix: str) -> Path:
    """A zip file of the artifact, in a folder of its own where there is a prefix."""
    path = artifact.parent / "packed.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(artifact.rglob("*")):
            archive.write(file, prefix + file.relative_to(artifact).as_posix())
    return path


def said_of(path: Path, *options: str) -> Result:
    done = CliRunner().invoke(main, ["verify", str(path), *options])
    assert tempfile.gettempdir() not in (done.stdout + done.stderr).replace(str(path), "")
    return done


@pytest.mark.parametrize("prefix", ["", "xeon-cpu/"])
def test_a_zip_file_with_and_without_the_folder(tmp_path: Path, prefix: str) -> None:
    path = packed(make_artifact(tmp_path / "made", budget=None), prefix)
    done = said_of(path)
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (0, f"{path} is what its manifest says."), done.output
    report = verify_path(path)
    assert (report.ok, report.folder, report.to_json()["folder"]) == (True, path, str(path))


def test_a_zip_file_with_more_folders_is_no_artifact(onnx_artifact: Path) -> None:
    assert said_of(packed(onnx_artifact, "a/b/")).exit_code == 2


@pytest.mark.parametrize("prefix", ["", "xeon-cpu/"])
def test_a_zip_file_is_called_what_the_user_calls_it(tmp_path: Path, prefix: str) -> None:
    """In the report, in errors, and in what they say of files in it."""
    made = make_artifact(tmp_path / "made", budget=None)
    (made / "model.onnx").write_bytes(b"no graph")
    path = packed(made, prefix)
    assert said_of(path).stderr.startswith(f"Error: {path}: file model.onnx: ")
    _reseal_files(made, **{"model.onnx": _entry(made / "model.onnx")})
    path = packed(made, prefix)
    assert f"{path}/model.onnx" in said_of(path).stderr
    assert f"{path}/model.onnx" in json.loads(said_of(path, "--json").stdout)["error"]
    (made / "samples.npz").write_bytes(b"")
    _reseal_files(made, **{"samples.npz": _entry(made / "samples.npz")})
    path = packed(made, prefix)
    assert said_of(path).stderr.startswith(f"Error: {path}/samples.npz: not the samples")
    (made / "manifest.json").write_text("{}")
    path = packed(made, prefix)
    assert said_of(path).stderr.startswith(f"Error: {path}/manifest.json: not the manifest")
    (made / "manifest.json").unlink()
    path = packed(made, prefix)
    assert said_of(path).stderr == f"Error: {path}: not an artifact (it has no file manifest.json)\n"


def test_details_are_of_what_the_user_calls_it(tmp_path: Path) -> None:
    manifest = tiny_manifest()
    checks = (Check("parity", True, "fine"), Check("budget", False, f"{tmp_path}/model.onnx broke"))
    report = Report(tmp_path, manifest, checks).named(Path("a.zip"))
    failure = report.failure()
    assert failure is not None
    assert failure.message == "a.zip: budget: a.zip/model.onnx broke"


def test_a_tar_archive_is_no_artifact(onnx_artifact: Path) -> None:
    path = Path(shutil.make_archive(str(onnx_artifact.parent / "packed"), "gztar", onnx_artifact))
    assert (said_of(path).exit_code, said_of(path).stderr) == (2, f"Error: {path}: neither a folder nor a zip file\n")


def test_a_newer_artifact(onnx_artifact: Path) -> None:
    edit(onnx_artifact, schema_version=2)
    with pytest.raises(VerificationFailed, match=r"newer instatune-deploy \(schema 2\)"):
        verify(onnx_artifact)


def test_a_precision_this_host_lacks_is_bad_input(onnx_artifact: Path) -> None:
    reseal(onnx_artifact, precision="bf16")
    with pytest.raises(BadInput, match="does not run bf16"):
        verify(onnx_artifact)


def test_verifying_imports_no_training_library() -> None:
    code = (
        "import sys; import instatune_deploy.artifact.verify; import instatune_deploy.artifact.write\n"
        "assert not {'torch', 'transformers', 'onnx', 'openvino', 'onnxruntime'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
