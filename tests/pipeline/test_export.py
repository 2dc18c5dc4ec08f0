from __future__ import annotations

import errno
import os
import re
import shutil
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from instatune_deploy.artifact.checks import check_files
from instatune_deploy.artifact.graph_files import GraphFiles
from instatune_deploy.artifact.manifest import read_manifest
from instatune_deploy.digests import folder_sha256
from instatune_deploy.errors import BadInput, NoArchitectureFits, TooNoisy, VerificationFailed
from instatune_deploy.pipeline.export import ATTEMPTS, _shipped_accuracy

from .conftest import BUDGET
from .fakes import Place, accuracy_of, latency_of


@pytest.fixture
def unmade(place: Place) -> Place:
    """A finished search whose artifact is not made yet."""
    shutil.rmtree(place.artifact)
    return place


@pytest.mark.parametrize(("has_top5", "expected"), [(True, {"test": 0.25, "top5_test": 0.75}), (False, {"test": 0.25})])
def test_top5_comes_of_the_same_logits(monkeypatch: pytest.MonkeyPatch, has_top5: bool, expected: dict[str, float]) -> None:
    """Labels 5, 4, 1 and 0 of six whose logits rise from 0 to 5: the first is right, the last is not among five."""
    passes: list[str] = []

    def logits(architecture: object, session: object, split: str) -> np.ndarray:
        passes.append(split)
        return np.tile(np.arange(6.0), (4, 1))

    monkeypatch.setattr("instatune_deploy.pipeline.evaluate.opened", lambda graph, run: nullcontext())
    task = SimpleNamespace(has_top5=has_top5, labels={"test": np.array([5, 4, 1, 0])})
    bench, deployment = (
        SimpleNamespace(task=task, logits=logits),
        SimpleNamespace(runtime="onnxruntime", run=None, architecture=None),
    )
    draft = SimpleNamespace(folder=Path("nowhere"))
    found = _shipped_accuracy(bench, draft, deployment, "test")  # type: ignore[arg-type]
    assert found == expected
    assert passes == ["test"]


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_over_budget_on_the_finished_files_the_next_best_is_tried(unmade: Place, finished: Place) -> None:
    best = read_manifest(finished.artifact).deployment
    unmade.fake.slower = lambda deployment: 2.0 if deployment == best else 1.0
    unmade.job(BUDGET).run()
    assert unmade.fake.remeasured[0] == best
    assert len(unmade.fake.remeasured) == 1 + 3  # the refused one once, the artifact three times
    second = read_manifest(unmade.artifact)
    assert second.deployment == unmade.fake.remeasured[1]
    assert accuracy_of(second.architecture) <= accuracy_of(best.architecture)
    assert second.latency_ms.p90 <= 4
    assert "more than 4ms; the next best is tried" in unmade.said
    assert entries(unmade.output) == ["tiny-cpu"]


def test_the_slowest_of_three_fresh_measurements_is_promised(unmade: Place) -> None:
    factors = iter([1.0, 1.1, 1.05])
    unmade.fake.slower = lambda deployment: next(factors)
    unmade.job("p90:40ms").run()
    manifest = read_manifest(unmade.artifact)
    expected = latency_of(manifest.architecture, manifest.runtime) * 1.1
    assert manifest.latency_ms.p90 == pytest.approx(expected)


def test_finished_files_that_are_less_accurate_are_not_handed_over(unmade: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("instatune_deploy.pipeline.export.ACCURACY_TOLERANCE", 0.01)
    with pytest.raises(
        NoArchitectureFits, match=r"the last: the finished files reach \d+\.\d%, the graph that was searched \d+\.\d%"
    ):
        unmade.job(BUDGET).run()
    assert entries(unmade.output) == []


def test_none_keeps_the_budget_on_the_finished_files(unmade: Place) -> None:
    unmade.fake.slower = lambda deployment: 10.0
    with pytest.raises(NoArchitectureFits, match=r"the finished files of the \d networks tried did not keep") as caught:
        unmade.job(BUDGET).run()
    first, *nearest = str(caught.value).splitlines()
    assert re.search(r"The nearest of \d+ measured:$", first)
    assert len(nearest) == 3
    tried = unmade.fake.remeasured
    assert len(set(tried)) == len(tried)
    assert 2 <= len(tried) <= ATTEMPTS
    assert entries(unmade.output) == []


def test_what_grew_too_large_is_not_tried_again_and_again(unmade: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO's finished files are larger than what was measured: others in it would be as well, ONNX Runtime's are not."""
    asked: list[str] = []

    def size_bytes(files: GraphFiles, folder: Path) -> int:
        asked.append(files.names[0])
        return 10**9 if len(files.names) == 2 else 10**4

    monkeypatch.setattr(GraphFiles, "size_bytes", size_bytes)
    unmade.job("size:1MB").run()
    assert asked.count("openvino_model.xml") == 1
    assert "the finished files take 1000 MB, more than 1 MB; the next best is tried" in unmade.said
    manifest = read_manifest(unmade.artifact)
    assert (manifest.runtime, manifest.size_bytes) == ("onnxruntime", 10**4)
    unmade.job("size:1MB").run()
    assert "made before, its files are unchanged, reused" in unmade.said


def test_finished_files_whose_latency_cannot_be_believed(unmade: Place) -> None:
    unmade.fake.noisy = lambda deployment, device: True
    with pytest.raises(TooNoisy, match=r"cannot be believed: other processes used 2\.0 of 2 processors"):
        unmade.job(BUDGET).run()
    assert entries(unmade.output) == []


def test_a_graph_that_is_another_network(unmade: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is exported says something else than PyTorch: no artifact."""
    from instatune_deploy.pipeline.bench import Bench

    graph = Bench.graph
    monkeypatch.setattr(Bench, "graph", lambda bench, _, runtime: graph(bench, bench.supernet.space.largest(), runtime))
    with pytest.raises(VerificationFailed, match=r"parity with PyTorch: .* more than the tolerance of 0\.0001"):
        unmade.job(BUDGET).run()
    assert entries(unmade.output) == []


@pytest.mark.parametrize("step", ["add_graph", "add_preprocessing", "add_samples", "finish"])
@pytest.mark.parametrize("older", [True, False])
def test_a_full_disk_leaves_no_half_artifact(place: Place, monkeypatch: pytest.MonkeyPatch, step: str, older: bool) -> None:
    from instatune_deploy.artifact.write import Draft

    def full(draft: Draft, *_: Any) -> None:
        (draft.folder / "half").write_bytes(b"x" * 1000)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (place.artifact / "config.json").write_text("{}")  # so it is made anew
    before = folder_sha256(place.artifact)
    if not older:
        shutil.rmtree(place.artifact)
    monkeypatch.setattr(Draft, step, full)
    with pytest.raises(BadInput) as caught:
        place.job(BUDGET).run()
    assert caught.value.message == f"cannot write {place.artifact}: the disk is full; free some space and run again"
    assert entries(place.output) == (["tiny-cpu"] if older else [])
    if older:
        assert folder_sha256(place.artifact) == before


@pytest.mark.parametrize("change", ["tampered", "truncated", "missing", "added", "manifest"])
def test_a_changed_artifact_is_not_reused(place: Place, change: str) -> None:
    path = place.artifact / "tokenizer.json"
    content = path.read_bytes()
    if change == "tampered":
        path.write_bytes(content.replace(b"good", b"evil", 1))
    elif change == "truncated":
        path.write_bytes(content[:-10])
    elif change == "missing":
        path.unlink()
    elif change == "added":
        (place.artifact / "more.txt").write_text("")
    else:
        manifest = place.artifact / "manifest.json"
        manifest.write_text(manifest.read_text(encoding="utf-8").replace('"p90"', '"p50"', 1), encoding="utf-8")
    place.job(BUDGET).run()
    assert "reused" not in place.said.partition("export: ")[2]
    assert len(place.fake.remeasured) == 3
    assert place.fake.measured == []
    assert path.read_bytes() == content
    assert all(check.ok for check in check_files(place.artifact, read_manifest(place.artifact)))


def test_another_folder_is_never_overwritten(unmade: Place) -> None:
    unmade.artifact.mkdir()
    (unmade.artifact / "thesis.txt").write_text("years of work")
    with pytest.raises(BadInput, match="it exists and is no artifact; move it away"):
        unmade.job(BUDGET).run()
    assert entries(unmade.artifact) == ["thesis.txt"]


def test_the_artifact_is_read_with_onnxruntime_or_openvino_alone(finished: Place) -> None:
    """What a receiver does, without this package."""
    import numpy as np

    manifest = read_manifest(finished.artifact)
    with np.load(finished.artifact / "samples.npz") as samples:
        arrays = dict(samples)
    expected = arrays.pop("logits")[:1]
    row = {name: values[:1] for name, values in arrays.items()}
    if manifest.runtime == "onnxruntime":
        import onnxruntime

        (logits,) = onnxruntime.InferenceSession(finished.artifact / "model.onnx").run(None, row)
    else:
        import openvino

        compiled = openvino.Core().compile_model(
            finished.artifact / "openvino_model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
        )
        logits = compiled(row)[0]
    np.testing.assert_allclose(logits, expected, atol=1e-4)
