"""The model card: `README.md` of an artifact, with the YAML header that Hugging Face expects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from instatune_deploy.artifact.graph_files import GRAPH_FILES
from instatune_deploy.artifact.manifest import Manifest
from instatune_deploy.artifact.preprocessing import kind_of
from instatune_deploy.devices.latency import SHARES
from instatune_deploy.devices.plan import package_of

FILE_NAME = "README.md"
PICTURE = "front.png"
"""Shown in the card where there is one: the front that the network was chosen from."""
TEXT = """\
---
{header}---

# {base_model} for {task}, on {device}

A sub-network of a fine-tuned super-network, chosen for its latency on one kind of device, and proved there.

| | |
| --- | --- |
{facts}
{picture}
## Use it

{use}

## Trust it

    python verify.py

checks every file's checksum, the outputs on the samples, and the budget, measured anew on your machine; it needs Python 3.10,
NumPy and {package}. Exit code 0: all is well; 2: it cannot be checked here; 4: it is not what it says; 5: the machine is too
busy to say. `--json` is for programs.

What was measured, how, and on which machine is in `manifest.json` (its form: `manifest.schema.json` of instatune-deploy). The
latency holds for inputs of the shape given above, on such a machine.

## What is in it

| file | bytes |
| --- | ---: |
{files}

Made by instatune-deploy {version} on {created}.
"""
PREDICT = """\
    pip install numpy {library} {package}
    python predict.py {example}

`predict.py` is short: copy what you need. `preprocessing.json` says step by step how {what} becomes the graph's inputs, for
programs in other languages; `samples.npz` has inputs and the outputs PyTorch gave for them."""
KINDS = {
    "text": {"library": "tokenizers", "example": '"A text." "Another one."', "what": "a text"},
    "image": {"library": "pillow", "example": "samples/0.png samples/1.png", "what": "an image"},
}
NO_PREDICT = "`samples.npz` has inputs and the outputs PyTorch gave for them; the tokenizer's files are beside it."


def write_card(folder: Path, manifest: Manifest) -> None:
    """Write README.md; ``folder`` holds all other files but the manifest."""
    (folder / FILE_NAME).write_text(card(folder, manifest), encoding="utf-8")


def card(folder: Path, manifest: Manifest) -> str:
    """The text, for the artifact in ``folder``."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != FILE_NAME)
    files = [f"| `{path.relative_to(folder).as_posix()}` | {path.stat().st_size} |" for path in paths]
    kind, package = kind_of(folder), package_of(manifest.deployment.run)
    return TEXT.format(
        header=yaml.safe_dump(_header(manifest), sort_keys=False, allow_unicode=True),
        base_model=manifest.base_model,
        task=manifest.task.replace("-", " "),
        device=manifest.device,
        facts="\n".join(f"| {name} | {value} |" for name, value in _facts(manifest).items()),
        picture=_picture(manifest) if (folder / PICTURE).is_file() else "",
        use=NO_PREDICT if kind is None else PREDICT.format(package=package, **KINDS[kind]),
        package=package,
        files="\n".join(files),
        version=manifest.versions.get("instatune-deploy", ""),
        created=f"{manifest.created:%Y-%m-%d}",
    )


def _facts(manifest: Manifest) -> dict[str, str]:
    latency, baseline = manifest.latency_ms, manifest.baseline
    budget = manifest.budget
    statistic = manifest.statistic
    times = baseline.latency_ms / latency.statistic_ms(statistic)
    full_run = f"{baseline.runtime} {baseline.precision}"
    at = "" if baseline.image_size is None else f" at {baseline.image_size} px"
    machine = f"{manifest.host.get('cpu_model') or 'unknown processor'}, {manifest.host.get('cores', '?')} cores"
    shapes = "; ".join(f"{name} {shape}" for name, shape in manifest.input_shapes.items())
    percentiles = ", ".join(f"{name} {latency.statistic_ms(name):.2f}" for name in SHARES)
    test = "" if manifest.accuracy.test is None else f", {manifest.accuracy.test:.2%} on test rows"
    rows = "" if manifest.data is None else f" ({', '.join(f'{count} {split}' for split, count in manifest.data.rows.items())})"
    facts = {
        "runs in": f"{manifest.deployment.run}",
        "latency": f"{percentiles} ms of one inference ({latency.count} runs, the slowest of three processes) on {machine}",
        "budget": budget.text if budget is not None else "none was asked for",
        "full model": f"{baseline.latency_ms:.2f} ms ({statistic}) in {full_run}{at}: {times:.1f} times",
        "accuracy": f"{manifest.accuracy.validation:.2%} on validation rows (full model {baseline.accuracy:.2%}){test}",
        "top-5 accuracy": ", ".join(f"{value:.2%} on {split} rows" for split, value in manifest.accuracy.top5.items()),
        "data": f"{manifest.data.reference}{rows}" if manifest.data is not None else "",
        "vocabulary": _vocabulary(manifest),
        "network": f"{manifest.architecture}; {manifest.parameters / 1e6:.1f} M parameters, {manifest.macs / 1e9:.2f} G MACs",
        "size": f"{manifest.size_bytes / 1e6:.1f} MB ({', '.join(GRAPH_FILES[manifest.runtime].names)})",
        "memory": f"{manifest.memory_bytes / 1e6:.0f} MB at most in a process" if manifest.memory_bytes is not None else "",
        "inputs": f"{shapes}{_open(manifest)}",
        "labels": ", ".join(manifest.labels),
    }
    return {name: value for name, value in facts.items() if value}


def _picture(manifest: Manifest) -> str:
    chosen = f"this one: {manifest.latency_ms.statistic_ms(manifest.statistic):.2f} ms, {manifest.accuracy.validation:.1%}"
    beside = f"the full model: {manifest.baseline.latency_ms:.2f} ms, {manifest.baseline.accuracy:.1%}"
    return f"\n![Accuracy against latency of every network measured ({chosen}; {beside})]({PICTURE})\n"


def _vocabulary(manifest: Manifest) -> str:
    found = manifest.vocabulary
    if found is None:
        return ""
    return (
        f"{found.tokens} of {found.of} tokens, those of the training rows; of the test rows {found.test_differing:.1%} are "
        f"tokenised differently by it, {found.test_unknown:.2%} of their tokens are unknown"
    )


def _open(manifest: Manifest) -> str:
    if not manifest.open_axes:
        return ""
    return f"; of any other {' and '.join(manifest.open_axes)} too, for which no latency is promised"


def _top5(manifest: Manifest, split: str) -> list[dict[str, Any]]:
    """The hub's own metric, by the name that image classifiers there have."""
    top5 = manifest.accuracy.top5
    return [{"type": "accuracy", "name": "Top 5 Accuracy", "value": round(top5[split], 6)}] if split in top5 else []


def _header(manifest: Manifest) -> dict[str, Any]:
    """`base_model` stands there only when it is the name of a model on the hub."""
    accuracies = [("validation", manifest.accuracy.validation), ("test", manifest.accuracy.test)]
    dataset = manifest.data.reference if manifest.data is not None else manifest.task
    results = [
        {
            "task": {"type": manifest.task},
            "dataset": {"name": dataset, "type": "custom", "split": split},
            "metrics": [{"type": "accuracy", "value": round(value, 6)}, *_top5(manifest, split)],
        }
        for split, value in accuracies
        if value is not None
    ]
    return {
        **({"license": manifest.license} if manifest.license else {}),
        "library_name": manifest.runtime,
        "pipeline_tag": manifest.task,
        **({"base_model": manifest.base_model} if manifest.base_model_on_hub else {}),
        "tags": ["instatune-deploy", manifest.runtime, manifest.precision, manifest.device],
        "metrics": ["accuracy"],
        "model-index": [{"name": f"{manifest.device}", "results": results}],
    }
