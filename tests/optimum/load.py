"""Load artifacts with optimum-onnx, optimum-intel and transformers' own pipeline, and compare with what PyTorch said.

    python tests/optimum/load.py ARTIFACT...

Runs in an environment of its own (`make optimum`): these cannot be installed beside transformers 5. Exit code 1 when an artifact
does not load or says something else than its samples.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoImageProcessor, AutoTokenizer, pipeline

CLASSES = {"text-classification": "SequenceClassification", "image-classification": "ImageClassification"}
PRECISION_HINTS = {"bf16": "bf16", "fp16": "f16"}


def load(folder: Path, manifest: dict[str, Any]) -> Any:
    """As optimum's documentation says; OpenVINO chooses a precision of its own where none is named."""
    name = CLASSES[manifest["task"]]
    if manifest["runtime"] == "onnxruntime":
        from optimum import onnxruntime

        return getattr(onnxruntime, f"ORTModelFor{name}").from_pretrained(folder)
    from optimum import intel

    hint = PRECISION_HINTS.get(manifest["precision"], "f32")
    return getattr(intel, f"OVModelFor{name}").from_pretrained(folder, ov_config={"INFERENCE_PRECISION_HINT": hint})


def compare(folder: Path) -> str:
    """What was found, in a line. ``AssertionError`` when an output is not that of the samples."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    samples = json.loads((folder / "samples.json").read_text(encoding="utf-8"))
    allowed, batch = manifest["parity"]["tolerance"], manifest["batch_size"]
    model = load(folder, manifest)
    made_of = of_images(folder, model) if manifest["task"] == "image-classification" else of_texts(folder, model, manifest)
    inputs, classify, first = made_of(samples)
    farthest = 0.0
    for start in range(0, len(samples), batch):
        rows = [min(start + index, len(samples) - 1) for index in range(batch)]  # the last batch is filled up
        with torch.no_grad():
            made = model(**inputs(rows)).logits.float().numpy()
        farthest = max(farthest, float(np.abs(made - np.array([samples[row]["logits"] for row in rows])).max()))
    assert farthest <= allowed, f"{folder}: logits differ by {farthest:g}, more than {allowed:g}"
    said = classify(first)[0]["label"]
    expected_label = manifest["labels"][int(np.argmax(samples[0]["logits"]))]
    assert said == expected_label, f"{folder}: the pipeline says {said}, the samples {expected_label}"
    return f"{folder}: {type(model).__name__}, logits within {farthest:.2g} (allowed {allowed:.2g}), pipeline says {said}"


def of_texts(folder: Path, model: Any, manifest: dict[str, Any]) -> Callable[[Any], tuple[Any, Any, Any]]:
    """Inputs of rows, transformers' pipeline, and the first text, from the artifact's own tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    how = {"padding": "max_length", "truncation": True, "max_length": manifest["input_shapes"]["input_ids"][1]}

    def made(samples: Any) -> tuple[Any, Any, Any]:
        classify = pipeline("text-classification", model=model, tokenizer=tokenizer)
        return (
            lambda rows: tokenizer([samples[row]["text"] for row in rows], return_tensors="pt", **how),
            lambda text: classify(text, **how),
            samples[0]["text"],
        )

    return made


def of_images(folder: Path, model: Any) -> Callable[[Any], tuple[Any, Any, Any]]:
    """The same from the artifact's own image processor; only some of the samples lie there as images."""
    processor = AutoImageProcessor.from_pretrained(folder, use_fast=False)
    pixels = np.load(folder / "samples.npz")["pixel_values"]

    def made(samples: Any) -> tuple[Any, Any, Any]:
        classify = pipeline("image-classification", model=model, image_processor=processor)
        return lambda rows: {"pixel_values": torch.from_numpy(pixels[rows])}, classify, str(folder / samples[0]["image"])

    return made


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
