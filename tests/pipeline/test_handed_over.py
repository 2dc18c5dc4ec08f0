"""What an artifact of the whole pipeline holds for those who receive it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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
    assert done.returncode == 2
    assert 'python predict.py "A text."' in done.stderr


def test_the_card_shows_the_front(finished: Place) -> None:
    assert "](front.png)" in (finished.artifact / "README.md").read_text(encoding="utf-8")
    with Image.open(finished.artifact / "front.png") as picture:
        picture.load()
        assert picture.width > 600


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


def test_a_trimmed_vocabulary_ships_smaller_and_says_what_it_costs(place: Place, tiny_rows: list[tuple[str, str]]) -> None:
    """One word of the checkpoint's vocabulary is in no row. Trained anew on the smaller checkpoint; a second run finds it."""
    counts = Counter(word for text, _ in tiny_rows for word in text.split())
    rare = min(counts, key=lambda word: counts[word])
    rows = [{"text": text, "label": label} for text, label in tiny_rows if rare not in text.split()]
    data = place.folder / "rare.jsonl"
    data.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    text = re.sub(r"(?<=data:\n  reference: ).*", str(data), place.pipeline.read_text(encoding="utf-8"))
    place.pipeline.write_text(text.replace("model:\n", "model:\n  trim_vocabulary: true\n"), encoding="utf-8")
    whole = read_manifest(place.artifact)
    place.job("6ms").run()
    manifest = read_manifest(place.artifact)
    found = manifest.vocabulary
    assert found is not None
    assert found.tokens < found.of
    assert read_json(place.artifact / "config.json")["vocab_size"] == found.tokens
    assert f"vocabulary: {found.tokens} of {found.of} tokens are kept; of the validation rows" in place.said
    assert whole.vocabulary is None
    done = run(place.artifact, "predict.py", read_json(place.artifact / "samples.json")[0]["text"])
    assert done.stdout.split(" ")[0] in manifest.labels
    assert "of the test rows" in (place.artifact / "README.md").read_text(encoding="utf-8")
    place.job("6ms").run()
    assert "fine-tuned before" in place.said
    assert len(list((place.work / "trimmed").iterdir())) == 1
