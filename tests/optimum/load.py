"""Load artifacts with optimum-onnx, optimum-intel and transformers' own pipeline, and compare with what PyTorch said.

    python tests/optimum/load.py ARTIFACT...

Runs in an environment of its own (`make optimum`): these cannot be installed beside transformers 5. Exit code 1 when an artifact
does not load or says something else than its samples.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer, pipeline

TASK = "text-classification"
PRECISION_HINTS = {"bf16": "bf16", "fp16": "f16"}


def load(folder: Path, manifest: dict[str, Any]) -> Any:
    """As optimum's documentation says; OpenVINO chooses a precision of its own where none is named."""
    if manifest["runtime"] == "onnxruntime":
        from optimum.onnxruntime import ORTModelForSequenceClassification

        return ORTModelForSequenceClassification.from_pretrained(folder)
    from optimum.intel import OVModelForSequenceClassification

    hint = PRECISION_HINTS.get(manifest["precision"], "f32")
    return OVModelForSequenceClassification.from_pretrained(folder, ov_config={"INFERENCE_PRECISION_HINT": hint})


def compare(folder: Path) -> str:
    """What was found, in a line. ``AssertionError`` when an output is not that of the samples."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    samples = json.loads((folder / "samples.json").read_text(encoding="utf-8"))
    allowed = manifest["parity"]["tolerance"]
    batch, length = manifest["input_shapes"]["input_ids"]
    model, tokenizer = load(folder, manifest), AutoTokenizer.from_pretrained(folder)
    how = {"padding": "max_length", "truncation": True, "max_length": length}
    farthest, right = 0.0, 0
    for start in range(0, len(samples), batch):
        rows = [samples[min(start + index, len(samples) - 1)] for index in range(batch)]  # the last batch is filled up
        with torch.no_grad():
            made = model(**tokenizer([row["text"] for row in rows], return_tensors="pt", **how)).logits.float().numpy()
        expected = np.array([row["logits"] for row in rows])
        farthest = max(farthest, float(np.abs(made - expected).max()))
        right += int((made.argmax(axis=1) == expected.argmax(axis=1)).sum())
    assert farthest <= allowed, f"{folder}: logits differ by {farthest:g}, more than {allowed:g}"
    classify = pipeline(TASK, model=model, tokenizer=tokenizer)
    said = classify(samples[0]["text"], **how)[0]["label"]
    expected_label = manifest["labels"][int(np.argmax(samples[0]["logits"]))]
    assert said == expected_label, f"{folder}: the pipeline says {said}, the samples {expected_label}"
    return f"{folder}: {type(model).__name__}, logits within {farthest:.2g} (allowed {allowed:.2g}), pipeline says {said}"


def main(folders: list[str]) -> int:
    """The exit code."""
    if not folders:
        print("python tests/optimum/load.py ARTIFACT...", file=sys.stderr)
        return 2
    failed = 0
    for folder in folders:
        try:
            print(compare(Path(folder)))
        except Exception as error:  # whatever optimum raises, the next one has its turn
            failed = 1
            print(f"{folder}: {type(error).__name__}: {error}", file=sys.stderr)
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
