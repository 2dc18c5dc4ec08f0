from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from instatune_deploy.artifact import graph_files
from instatune_deploy.artifact.manifest import read_manifest
from instatune_deploy.artifact.samples import Samples
from instatune_deploy.artifact.write import draft
from instatune_deploy.digests import file_sha256, folder_sha256
from instatune_deploy.errors import BadInput, VerificationFailed
from instatune_deploy.files import read_json

from .tiny import QUICK, fill, make_artifact, save_tokenizer, tiny_deployment, tiny_graph, tiny_manifest, tiny_samples

GRAPHS = {"onnxruntime": {"model.onnx"}, "openvino": {"openvino_model.xml", "openvino_model.bin"}}
OTHERS = {"config.json", "tokenizer.json", "tokenizer_config.json", "samples.npz", "verify.py", "verify.pyz", "README.md"}


@pytest.mark.parametrize("runtime", GRAPHS)
def test_an_artifact_has_all_its_files_and_knows_them(tmp_path: Path, runtime: str) -> None:
    target = make_artifact(tmp_path / "out" / "generic-cpu", runtime)
    assert {path.name for path in target.iterdir()} == GRAPHS[runtime] | OTHERS | {"manifest.json"}
    files = read_manifest(target).files
    assert set(files) == GRAPHS[runtime] | OTHERS
    for name, entry in files.items():
        assert (entry.sha256, entry.bytes) == (file_sha256(target / name), (target / name).stat().st_size)
    assert read_json(target / "config.json") == {"model_type": "bert"}
    assert [path.name for path in target.parent.iterdir()] == ["generic-cpu"], "the scratch folder is gone"


def test_the_draft_is_proved_before_it_is_an_artifact(tmp_path: Path) -> None:
    target = tmp_path / "generic-cpu"
    with draft(target, tiny_deployment("onnxruntime")) as artifact:
        fill(artifact)
        parity = artifact.prove_parity()
        assert parity.ok
        assert parity.rows == 5
        assert artifact.remeasure("generic-cpu", QUICK).timing is not None
        assert not target.exists()
        artifact.finish(tiny_manifest(parity=parity))
    assert read_manifest(target).parity == parity


def test_another_network_is_no_artifact(tmp_path: Path) -> None:
    samples = tiny_samples()
    with (  # noqa: PT012
        pytest.raises(VerificationFailed, match=r"parity with PyTorch: 2 layers.*differ by up to 1\b"),
        draft(tmp_path / "out", tiny_deployment("onnxruntime")) as artifact,
    ):
        artifact.add_graph(tiny_graph())
        artifact.add_samples(Samples(samples.inputs, samples.logits + np.float32(1)))
        artifact.prove_parity()
    assert list(tmp_path.iterdir()) == []


def test_an_older_artifact_is_replaced_whole(tmp_path: Path) -> None:
    target = make_artifact(tmp_path / "generic-cpu", "openvino")
    make_artifact(target, "onnxruntime")
    assert {path.name for path in target.iterdir()} == GRAPHS["onnxruntime"] | OTHERS | {"manifest.json"}


def _full_tokenizer(folder: Path) -> None:
    """The tokenizers library raises a bare Exception."""
    save_tokenizer(folder)
    raise Exception("No space left on device (os error 28)")


def _full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def _graph_on_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(graph_files.GRAPH_FILES, "onnxruntime", replace(graph_files.GRAPH_FILES["onnxruntime"], write=_full))


def _samples_on_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(np, "savez", _full)


def _manifest_on_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("instatune_deploy.artifact.manifest.write_json", _full)


def _config_on_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("instatune_deploy.artifact.write.write_json", _full)


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize(
    "fill_disk", [_graph_on_a_full_disk, _samples_on_a_full_disk, _manifest_on_a_full_disk, _config_on_a_full_disk]
)
def test_a_full_disk_leaves_nothing_or_the_older_artifact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fill_disk: Any, older: bool
) -> None:
    target = tmp_path / "generic-cpu"
    before = folder_sha256(make_artifact(target)) if older else None
    fill_disk(monkeypatch)
    with pytest.raises(BadInput, match=r"cannot write .*generic-cpu: the disk is full"):
        make_artifact(target)
    if older:
        assert folder_sha256(target) == before
    assert [path.name for path in tmp_path.iterdir()] == (["generic-cpu"] if older else [])


def test_a_tokenizer_on_a_full_disk(tmp_path: Path) -> None:
    with (
        pytest.raises(BadInput, match="the disk is full"),
        draft(tmp_path / "out", tiny_deployment("onnxruntime")) as artifact,
    ):
        artifact.add_preprocessing({}, _full_tokenizer)
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), draft(tmp_path / "out", tiny_deployment("onnxruntime")) as artifact:  # noqa: PT012
        fill(artifact)
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_draft_that_was_never_finished_is_no_artifact(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="never finished"), draft(tmp_path / "out", tiny_deployment("onnxruntime")) as artifact:
        fill(artifact)
    assert list(tmp_path.iterdir()) == []


def test_the_manifest_of_something_else(tmp_path: Path) -> None:
    with (  # noqa: PT012
        pytest.raises(ValueError, match=r"the manifest is of .*openvino.*, the draft of .*onnxruntime"),
        draft(tmp_path / "out", tiny_deployment("onnxruntime")) as artifact,
    ):
        fill(artifact)
        artifact.finish(tiny_manifest("openvino"))


def test_an_output_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match=r"cannot write .*file/generic-cpu"):
        make_artifact(tmp_path / "file" / "generic-cpu")


def test_what_is_no_artifact_is_not_overwritten(tmp_path: Path) -> None:
    target = tmp_path / "generic-cpu"
    target.mkdir()
    make_artifact(target)  # an empty folder is nobody's loss
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "chapter1.txt").write_text("years of work")
    with pytest.raises(BadInput, match="thesis: it exists and is no artifact"):
        make_artifact(thesis)
    with pytest.raises(BadInput, match=r"chapter1.txt: it exists and is no artifact"):
        make_artifact(thesis / "chapter1.txt")
    assert (thesis / "chapter1.txt").read_text() == "years of work"
