"""An artifact as a model server wants it: a model repository beside the plain artifact, made of its files.

A new layout is one function and one line in `LAYOUTS`.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from instatune_deploy.artifact.graph_files import GRAPH_FILES
from instatune_deploy.artifact.manifest import FILE_NAME, Manifest, read_manifest
from instatune_deploy.devices.runs import Run
from instatune_deploy.devices.runtimes.registry import PRECISIONS
from instatune_deploy.errors import BadInput
from instatune_deploy.files import whole_folder, write_json, write_text

VERSION = "1"
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,126}")
TYPES = {"int64": "TYPE_INT64", "float32": "TYPE_FP32", "uint8": "TYPE_UINT8"}
AXES = {"int64": "batch, tokens", "float32": "batch, channels, height, width", "uint8": "batch, height, width, channels"}
CONFIG, LABELS, SERVER_CONFIG = "config.pbtxt", "labels.txt", "config.json"


@dataclass(frozen=True)
class Layout:
    """What a server can run, and how its repository is written.

    serves: by runtime and provider, the precisions in which the server can be told to compute; int8 stands in the graph
    write:  the artifact's folder, its manifest, the model's name there, the repository's folder
    """

    serves: dict[tuple[str, str], tuple[str, ...]]
    write: Callable[[Path, Manifest, str, Path], None]

    def can(self, run: Run) -> bool:
        """Whether the server can run a graph so."""
        return run.precision in self.serves.get((run.runtime, run.provider), ())


def check_name(name: str) -> None:
    """``BadInput`` for a name that model servers do not take."""
    if not NAME.fullmatch(name) or ".." in name:
        raise BadInput(
            f"model name '{name}': letters, digits, '_', '-' and '.' only, no more than 127, and none of the last two first"
        )


def write_layout(artifact: Path, layout: str, name: str, target: Path) -> Path:
    """Write the repository ``target`` of the artifact, whole or not at all; an older one is replaced.

    ``BadInput`` when the server cannot run it, the name is none, or ``target`` holds something else.
    """
    check_name(name)
    manifest, chosen = read_manifest(artifact), LAYOUTS[layout]
    if not chosen.can(manifest.deployment.run):
        raise BadInput(f"layout '{layout}' does not serve {manifest.deployment.run}; it serves {served(layout)}")
    if target.exists() and not _ours(target):
        raise BadInput(f"cannot write {target}: it exists and is not the repository of one artifact; move it away")
    with whole_folder(target) as folder:
        chosen.write(artifact, manifest, name, folder)
        # who serves it can still say what it is, and prove that the graph's files are those
        shutil.copyfile(artifact / FILE_NAME, folder / name / FILE_NAME)
    return target


def _ours(target: Path) -> bool:
    """Whether nothing would be lost but an older repository of ours: one model of one version, and the server's configuration."""
    if not target.is_dir():
        return False
    found = list(target.iterdir())
    models = [path for path in found if path.name != SERVER_CONFIG]
    if len(models) != 1 or not models[0].is_dir():
        return not found
    inside = {path.name for path in models[0].iterdir()}
    return {VERSION, FILE_NAME} <= inside <= {VERSION, FILE_NAME, CONFIG, LABELS} and (models[0] / VERSION).is_dir()


def served(layout: str) -> str:
    """What a layout's server runs, in words."""
    return "; ".join(
        f"{runtime} on {provider} in {', '.join(precisions)}"
        for (runtime, provider), precisions in LAYOUTS[layout].serves.items()
    )


def _ovms(artifact: Path, manifest: Manifest, name: str, folder: Path) -> None:
    """OpenVINO Model Server: ``NAME/1/`` with the graph, and config.json, whose paths are relative to it."""
    from instatune_deploy.devices.runtimes.openvino import DEVICES, settings

    version = folder / name / VERSION
    version.mkdir(parents=True)
    for file in GRAPH_FILES["openvino"].names:
        shutil.copyfile(artifact / file, version / file)
    run = manifest.deployment.run
    config: dict[str, Any] = {"name": name, "base_path": name, "target_device": DEVICES[run.provider]}
    config["plugin_config"] = {key: _word(value) for key, value in settings(run.precision, run.threads, run.provider).items()}
    write_json(folder / SERVER_CONFIG, {"model_config_list": [{"config": config}]})


def _word(value: Any) -> str:
    """OpenVINO reads its settings as words."""
    return str(value).upper() if isinstance(value, bool) else str(value)


def _triton(artifact: Path, manifest: Manifest, name: str, folder: Path) -> None:
    """Triton: ``NAME/config.pbtxt`` with the one shape that the graph has, and ``NAME/1/``."""
    version = folder / name / VERSION
    version.mkdir(parents=True)
    run = manifest.deployment.run
    for file in GRAPH_FILES[run.runtime].names:
        shutil.copyfile(artifact / file, version / f"model{Path(file).suffix}")
    batch = -1 if "batch" in manifest.open_axes else manifest.batch_size
    inputs = [
        f"  {_tensor(item, TYPES[_type(manifest, item)], [batch, *_open(manifest, shape)])}"
        for item, shape in manifest.input_shapes.items()
    ]
    shape = [batch, len(manifest.labels)]
    output = f"  {_tensor('logits', 'TYPE_FP32', shape, label_filename=LABELS)}"
    parameters = [
        f"parameters {{ key: {json.dumps(key)} value {{ string_value: {json.dumps(value)} }} }}"
        for key, value in _parameters(run).items()
    ]
    kind = "KIND_CPU" if run.provider == "cpu" else "KIND_GPU"
    first, promised = next(iter(manifest.input_shapes.items()))
    lines = [
        f"name: {json.dumps(name)}",
        f"backend: {json.dumps(run.runtime)}",
        f"default_model_filename: {json.dumps('model' + Path(GRAPH_FILES[run.runtime].names[0]).suffix)}",
        f"# the latency was promised for {', '.join(map(str, promised))} ({AXES[_type(manifest, first)]})",
        "max_batch_size: 0",
        "input [\n" + ",\n".join(inputs) + "\n]",
        f"output [\n{output}\n]",
        f"instance_group [ {{ kind: {kind} count: 1 }} ]",
        *parameters,
    ]
    write_text(folder / name / CONFIG, "\n".join(lines) + "\n")
    write_text(folder / name / LABELS, "\n".join(manifest.labels) + "\n")


def _type(manifest: Manifest, name: str) -> str:
    """What an input holds. Older manifests do not say it: tokens, or an image's pixel values."""
    return manifest.input_types.get(name) or ("int64" if len(manifest.input_shapes[name]) == 2 else "float32")


def _open(manifest: Manifest, shape: Sequence[int]) -> list[int]:
    """The shape of an input behind its batch, -1 where any size may be."""
    return [-1] if len(shape) == 2 and "tokens" in manifest.open_axes else list(shape[1:])


def _tensor(name: str, data_type: str, shape: list[int], **more: str) -> str:
    said = "".join(f" {key}: {json.dumps(value)}" for key, value in more.items())
    return f"{{ name: {json.dumps(name)} data_type: {data_type} dims: [ {', '.join(map(str, shape))} ]{said} }}"


def _parameters(run: Run) -> dict[str, str]:
    """How the backend runs it, as it was measured."""
    if run.runtime == "onnxruntime":
        return {"intra_op_thread_count": str(run.threads)} if run.provider == "cpu" else {}
    bf16 = {"HINT_BF16": "YES"} if run.precision == "bf16" else {}
    return {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": str(run.threads), "NUM_STREAMS": "1", **bf16}


LAYOUTS: dict[str, Layout] = {
    "ovms": Layout({("openvino", provider): precisions for provider, precisions in PRECISIONS["openvino"].items()}, _ovms),
    # of OpenVINO it can be told bf16 and nothing else, and what it takes by itself depends on the processor; of CUDA not to
    # compute fp32 in TF32
    "triton": Layout(
        {
            ("onnxruntime", "cpu"): PRECISIONS["onnxruntime"]["cpu"],
            ("onnxruntime", "cuda"): ("fp16",),
            ("openvino", "cpu"): ("bf16",),
        },
        _triton,
    ),
}
