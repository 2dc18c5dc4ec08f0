"""What an artifact of the whole pipeline holds for those who receive it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from instatune_deploy.artifact.manifest import read_manifest
from instatune_deploy.artifact.samples import Samples
from instatune_deploy.files import read_json

from .fakes import Place


def run(folder: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """In another folder: what is needed is in the artifact."""
    environment = {**os.environ, "PYTHONPATH": ""}
    command = [sys.executable, "-W", "error", str(folder / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder.parent, env=environment)


def test_predict_says_what_pytorch_said(finished: Place) -> None:
    """Texts of several lengths, an empty one and one that is cut among them are tokenised as the samples were."""
    samples, texts = Samples.read(finished.artifact), read_json(finished.artifact / "samples.json")
    labels = read_manifest(finished.artifact).labels
    done = run(finished.artifact, "predict.py", *(item["text"] for item in texts))
    assert done.returncode == 0, done.stderr
    raised = np.exp(samples.logits - samples.logits.max(axis=1, keepdims=True))
    shares = raised / raised.sum(axis=1, keepdims=True)
    lines = done.stdout.splitlines()
    assert len(lines) == len(texts) == samples.rows
    for line, item, share, logits in zip(lines, texts, shares, samples.logits, strict=True):
        assert item["logits"] == logits.tolist()
        said, text = line.split("\t")
        label, percent = said.rsplit(" ", 1)
        assert text == item["text"]
        assert label == labels[share.argmax()]
        assert float(percent.removesuffix("%")) == pytest.approx(100 * share.max(), abs=0.11)


def test_predict_without_a_text_says_how_it_is_used(finished: Place) -> None:
    done = run(finished.artifact, "predict.py")
    assert done.returncode == 1
    assert 'python predict.py "A text."' in done.stderr


def test_preprocessing_is_described(finished: Place) -> None:
    steps = read_json(finished.artifact / "preprocessing.json")
    assert (steps["kind"], steps["length"], steps["batch_size"], steps["output"]) == ("text", 24, 1, "logits")
    assert steps["inputs"] == {"input_ids": "ids", "token_type_ids": "type_ids", "attention_mask": "attention_mask"}
    assert steps["labels"] == read_manifest(finished.artifact).labels
    assert (finished.artifact / steps["tokenizer"]).is_file()


def test_the_manifest_names_data_predictors_and_circumstances(finished: Place) -> None:
    manifest = read_manifest(finished.artifact)
    assert manifest.data is not None
    assert set(manifest.data.rows) == {"train", "validation", "test"}
    assert manifest.predictors is not None
    assert manifest.predictors.accuracy_mae is not None
    assert manifest.predictors.accuracy_mae < 0.1
    assert manifest.circumstances["attempts"] == 1
    assert manifest.latency_ms.lower is not None
    assert manifest.latency_ms.lower < manifest.latency_ms.p90


def test_it_verifies_itself(finished: Place, tmp_path: Path) -> None:
    """Really measured here, where the pipeline was told made-up latencies: only the files and the parity are looked at."""
    folder = tmp_path / "moved"
    shutil.copytree(finished.artifact, folder)
    done = run(folder, "verify.py")
    assert done.returncode in (0, 4, 5)
    assert "FAILED  file" not in done.stdout
    assert "ok      parity" in done.stdout
    (folder / "config.json").write_text("{}")
    done = run(folder, "verify.py")
    assert done.returncode == 4
    assert "file config.json: truncated" in done.stderr
