"""Artifacts whose graph does the preprocessing: what is written of them, what their programs do, how Triton is told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from instatune_deploy.artifact.layouts import write_layout
from instatune_deploy.artifact.samples import Samples
from instatune_deploy.artifact.write import draft
from instatune_deploy.files import read_json
from instatune_deploy.graphs.embed import embedded
from instatune_deploy.tasks.embedded_images import EmbeddedImages
from instatune_deploy.tasks.image_processing import Preprocessing

from .test_edge import REFUSED, SITE
from .tiny import RUNTIMES, TOKENS, tiny_deployment, tiny_manifest

BICUBIC = 3
LABELS = ["negative", "neutral", "positive"]
SOURCE = 9, 7
IMAGES = EmbeddedImages(Preprocessing((4, 5), BICUBIC, None, 1 / 255, (0.5, 0.25, 0.5), (0.5, 0.25, 1.0)), SOURCE)
HEAD = np.random.default_rng(4).standard_normal((60, 3)).astype(np.float32)


def logits(images: np.ndarray) -> np.ndarray:
    values = IMAGES.processing.batch([Image.fromarray(image) for image in images])
    return values.reshape(len(images), 60) @ HEAD


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (*shape, 3), dtype=np.uint8)


def make(target: Path, runtime: str) -> Path:
    """``logits = pixel values, flat, times HEAD``, of images of 9 x 7 pixels."""
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["pixel_values"], ["flat"]), helper.make_node("MatMul", ["flat", "head"], ["logits"])],
        "tiny",
        [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, [1, 3, 4, 5])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(HEAD, "head")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    images = noise(5, *SOURCE)
    with draft(target, tiny_deployment(runtime)) as artifact:
        artifact.add_graph(embedded(model, IMAGES.processing, SOURCE))
        artifact.add_preprocessing({"model_type": "vit"}, lambda folder: None)
        artifact.add_predict(IMAGES.described(["images"]), LABELS)
        artifact.add_samples(Samples({"images": images}, logits(images)))
        parity = artifact.prove_parity()
        shapes, types = {"images": [1, *SOURCE, 3]}, {"images": "uint8"}
        manifest = tiny_manifest(runtime, input_shapes=shapes, input_types=types, sequence_length=TOKENS, parity=parity)
        artifact.finish(manifest)
    return target


@pytest.fixture(scope="module", params=RUNTIMES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("made") / request.param, request.param)


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Where nothing of this package can be imported, nor what it needs."""
    site = folder.parent / "site"
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(SITE.format(refused=sorted({*REFUSED, "instatune_deploy.tasks"})), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False, cwd=site, env=environment)


def test_predict_hands_over_whole_images(made: Path) -> None:
    """Of the graph's size, and of another, which Pillow resizes first."""
    own, larger = noise(*SOURCE), noise(31, 12)
    resized = np.asarray(Image.fromarray(larger).resize((7, 9), Image.Resampling.BICUBIC))
    expected = []
    for name, image, seen in (("own", own, own), ("larger", larger, resized)):
        path = made.parent / f"{name}.png"
        Image.fromarray(image).save(path)
        shares = np.exp(logits(seen[None])[0].astype(np.float64))
        shares /= shares.sum()
        expected.append(f"{LABELS[shares.argmax()]} {shares.max():.1%}\t{path}")
    done = run(made, str(made / "predict.py"), *(str(made.parent / f"{name}.png") for name in ("own", "larger")))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == expected


def test_predict_computes_nothing_else(made: Path) -> None:
    text = (made / "predict.py").read_text(encoding="utf-8")
    assert "np.stack([whole(image) for image in images])" in text
    for word in ("rescale", "transpose", "crop"):
        assert word not in text.replace("exif_transpose", "")


def test_other_programs_are_told(made: Path) -> None:
    told = read_json(made / "preprocessing.json")
    assert (told["kind"], told["resize"], told["resample"], told["layout"]) == ("image", [9, 7], "bicubic", "NHWC")
    assert told["embedded"] == IMAGES.processing.to_json()
    assert not {"rescale", "mean", "std", "crop"} & set(told)
    assert any("uint8" in step for step in told["steps"])


def test_verify_proves_it(made: Path) -> None:
    done = run(made, str(made / "verify.py"))
    assert done.returncode in (0, 5), done.stderr  # 5: too busy a machine to say how fast it is
    assert "ok      parity: logits of 5 rows differ by up to" in done.stdout


def test_triton_is_told_the_type(tmp_path: Path) -> None:
    target = write_layout(make(tmp_path / "plain", "onnxruntime"), "triton", "seen", tmp_path / "served")
    config = (target / "seen" / "config.pbtxt").read_text()
    assert '{ name: "images" data_type: TYPE_UINT8 dims: [ 1, 9, 7, 3 ] }' in config
    assert "# the latency was promised for 1, 9, 7, 3 (batch, height, width, channels)" in config


def test_openvino_model_server_reads_type_and_shape_from_the_graph(tmp_path: Path) -> None:
    import openvino

    target = write_layout(make(tmp_path / "plain", "openvino"), "ovms", "seen", tmp_path / "served")
    model = openvino.Core().read_model(target / "seen" / "1" / "openvino_model.xml")
    (images,) = model.inputs
    assert (images.get_any_name(), images.element_type.get_type_name()) == ("images", "u8")
    assert list(images.shape) == [1, 9, 7, 3]


def test_the_graph_is_a_valid_one(tmp_path: Path) -> None:
    onnx.checker.check_model(onnx.load(make(tmp_path / "plain", "onnxruntime") / "model.onnx"))
