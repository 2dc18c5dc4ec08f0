from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest

from instatune_deploy.artifact.layouts import LAYOUTS, check_name, write_layout
from instatune_deploy.devices.runs import Run
from instatune_deploy.errors import BadInput
from instatune_deploy.files import read_json

from .tiny import make_artifact, reseal, tiny_samples

TRITON_ONNX = """\
name: "reviews"
backend: "onnxruntime"
default_model_filename: "model.onnx"
# the latency was promised for 1, 8 (batch, tokens)
max_batch_size: 0
input [
  { name: "input_ids" data_type: TYPE_INT64 dims: [ 1, 8 ] },
  { name: "attention_mask" data_type: TYPE_INT64 dims: [ 1, 8 ] }
]
output [
  { name: "logits" data_type: TYPE_FP32 dims: [ 1, 3 ] label_filename: "labels.txt" }
]
instance_group [ { kind: KIND_CPU count: 1 } ]
parameters { key: "intra_op_thread_count" value { string_value: "1" } }
"""


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_triton(tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path / "plain")
    target = write_layout(artifact, "triton", "reviews", tmp_path / "served")
    assert names(target) == [f"reviews/{name}" for name in ("1/model.onnx", "config.pbtxt", "labels.txt", "manifest.json")]
    assert (target / "reviews" / "config.pbtxt").read_text() == TRITON_ONNX
    assert (target / "reviews" / "labels.txt").read_text() == "negative\nneutral\npositive\n"
    assert (target / "reviews" / "1" / "model.onnx").read_bytes() == (artifact / "model.onnx").read_bytes()


def test_triton_with_open_shapes(tmp_path: Path) -> None:
    target = write_layout(make_artifact(tmp_path / "plain", open_axes=["batch"]), "triton", "reviews", tmp_path / "served")
    config = (target / "reviews" / "config.pbtxt").read_text()
    assert '{ name: "input_ids" data_type: TYPE_INT64 dims: [ -1, 8 ] }' in config
    assert '{ name: "logits" data_type: TYPE_FP32 dims: [ -1, 3 ] label_filename: "labels.txt" }' in config


def test_triton_with_openvino(tmp_path: Path) -> None:
    """Which can be told to compute in bf16, and nothing else."""
    artifact = make_artifact(tmp_path / "plain", "openvino")
    with pytest.raises(BadInput, match="layout 'triton' does not serve openvino fp32"):
        write_layout(artifact, "triton", "reviews", tmp_path / "served")
    reseal(artifact, precision="bf16")
    target = write_layout(artifact, "triton", "reviews", tmp_path / "served")
    assert names(target / "reviews" / "1") == ["model.bin", "model.xml"]
    config = (target / "reviews" / "config.pbtxt").read_text()
    assert 'backend: "openvino"' in config
    assert 'parameters { key: "INFERENCE_NUM_THREADS" value { string_value: "1" } }' in config
    assert 'parameters { key: "HINT_BF16" value { string_value: "YES" } }' in config


def test_openvino_model_server(tmp_path: Path) -> None:
    """What the server would do: read the configuration, load the graph by it, and run it."""
    target = write_layout(make_artifact(tmp_path / "plain", "openvino"), "ovms", "reviews", tmp_path / "served")
    assert names(target / "reviews") == ["1/openvino_model.bin", "1/openvino_model.xml", "manifest.json"]
    (entry,) = read_json(target / "config.json")["model_config_list"]
    config = entry["config"]
    assert (config["name"], config["base_path"], config["target_device"]) == ("reviews", "reviews", "CPU")
    assert config["plugin_config"]["INFERENCE_PRECISION_HINT"] == "f32"
    assert set(map(type, config["plugin_config"].values())) == {str}
    graph = target / config["base_path"] / "1" / "openvino_model.xml"
    compiled = openvino.Core().compile_model(graph, config["target_device"], config["plugin_config"])
    samples = tiny_samples()
    found = compiled(samples.batch(0, 1))["logits"]
    np.testing.assert_allclose(found, samples.logits[:1], atol=1e-4)


def test_a_server_that_cannot_run_it(tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path / "plain", "onnxruntime")
    with pytest.raises(
        BadInput,
        match="layout 'ovms' does not serve onnxruntime fp32, 1 thread; it serves openvino on cpu in fp32, bf16, fp16, int8; ",
    ):
        write_layout(artifact, "ovms", "reviews", tmp_path / "served")
    assert not (tmp_path / "served").exists()
    for run in (Run("openvino", "fp16", 1, "gpu"), Run("openvino", "fp32", 1), Run("onnxruntime", "fp32", 1, "cuda")):
        assert not LAYOUTS["triton"].can(run)
    for run in (Run("openvino", "bf16", 1), Run("onnxruntime", "int8", 2), Run("onnxruntime", "fp16", 1, "cuda")):
        assert LAYOUTS["triton"].can(run)


def test_an_older_repository_is_replaced_and_something_else_is_not(tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path / "plain")
    write_layout(artifact, "triton", "first", tmp_path / "served")
    write_layout(artifact, "triton", "second", tmp_path / "served")
    assert [path.name for path in (tmp_path / "served").iterdir()] == ["second"]
    other = tmp_path / "other"
    other.mkdir()
    (other / "letter.txt").write_text("dear")
    with pytest.raises(BadInput, match="it exists and is not the repository of one artifact; move it away"):
        write_layout(artifact, "triton", "reviews", other)
    assert names(other) == ["letter.txt"]
    # another model that somebody put beside ours
    (tmp_path / "served" / "another").mkdir()
    with pytest.raises(BadInput, match="it exists and is not the repository of one artifact"):
        write_layout(artifact, "triton", "third", tmp_path / "served")
    (tmp_path / "file").write_text("x")
    with pytest.raises(BadInput, match="it exists and is not the repository of one artifact"):
        write_layout(artifact, "triton", "third", tmp_path / "file")


@pytest.mark.parametrize(
    "files",
    [
        ["config.json"],
        ["config.json", "letters/manifest.json"],
        ["letters/manifest.json", "letters/dear.txt"],
        ["letters/1/model.onnx"],
        ["letters/1", "letters/manifest.json"],
        ["letters/1/model.onnx", "letters/manifest.json", "letters/2/model.onnx"],
        ["manifest.json"],
    ],
    ids=" ".join,
)
def test_what_somebody_else_wrote_is_not_replaced(tmp_path: Path, files: list[str]) -> None:
    artifact, target = make_artifact(tmp_path / "plain"), tmp_path / "target"
    for file in files:
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        (target / file).write_text("dear")
    with pytest.raises(BadInput, match="it exists and is not the repository of one artifact; move it away"):
        write_layout(artifact, "triton", "reviews", target)
    assert names(target) == sorted(files)


def test_an_empty_folder_and_the_other_layout_are_replaced(tmp_path: Path) -> None:
    artifact, target = make_artifact(tmp_path / "plain", "openvino"), tmp_path / "target"
    target.mkdir()
    write_layout(artifact, "ovms", "reviews", target)
    reseal(artifact, precision="bf16")
    write_layout(artifact, "triton", "reviews", target)
    assert names(target)[-1] == "reviews/manifest.json"
    assert not (target / "config.json").exists()
    write_layout(artifact, "ovms", "reviews", target)
    assert (target / "config.json").exists()


@pytest.mark.parametrize("name", ["", "a b", "../x", "a/b", ".hidden", "-x", "a..b", "é", "x" * 128])
def test_names_that_servers_do_not_take(name: str) -> None:
    with pytest.raises(BadInput, match="letters, digits"):
        check_name(name)


@pytest.mark.parametrize("name", ["xeon-cpu", "A_1.b", "9"])
def test_names_that_they_do(name: Any) -> None:
    check_name(name)
