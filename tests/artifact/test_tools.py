"""`python predict.py` in artifacts of tiny networks, of texts and of images, where nothing of this package can be imported."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from instatune_deploy.artifact.manifest import SCHEMA_VERSION
from instatune_deploy.artifact.samples import Samples
from instatune_deploy.artifact.write import draft

from .test_edge import REFUSED, SITE
from .test_verify import reseal_raw
from .tiny import HEAD, TABLE, TOKENS, edit, fill, tiny_deployment, tiny_manifest

LABELS = ["negative", "neutral", "positive"]
WORDS = {"[PAD]": 0, "[UNK]": 1, "a": 2, "good": 3, "bad": 4, "film": 5}
TEXTS = ["a good film", "a bad film", "bad " * 20]
TEXT: dict[str, Any] = {
    "kind": "text",
    "steps": [],
    "tokenizer": "tokenizer.json",
    "length": TOKENS,
    "padding": {"direction": "right", "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"},
    "inputs": {"input_ids": "ids", "attention_mask": "attention_mask"},
}
IMAGE: dict[str, Any] = {
    "kind": "image",
    "steps": [],
    "inputs": ["pixel_values"],
    "resize": [4, 4],
    "crop": None,
    "resample": "nearest",
    "rescale": 1 / 255,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
}
PIXELS = np.random.default_rng(3).integers(0, 256, (4, 4, 3), dtype=np.uint8)
IMAGE_HEAD = np.random.default_rng(4).standard_normal((48, 3)).astype(np.float32)


def make_text(target: Path, runtime: str = "onnxruntime", batch_size: int = 1) -> Path:
    with draft(target, tiny_deployment(runtime, batch_size)) as artifact:
        fill(artifact, batch_size)
        tokenizer = Tokenizer(WordLevel(WORDS, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = Whitespace()
        tokenizer.save(str(artifact.folder / "tokenizer.json"))
        artifact.add_predict(TEXT, LABELS)
        shapes = {name: [batch_size, TOKENS] for name in ("input_ids", "attention_mask")}
        artifact.finish(tiny_manifest(runtime, batch_size=batch_size, input_shapes=shapes))
    return target


def make_image(target: Path) -> Path:
    nodes = [
        helper.make_node("Flatten", ["pixel_values"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "head"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, [1, 3, 4, 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(IMAGE_HEAD, "head")],
    )
    values = np.zeros((2, 3, 4, 4), np.float32)
    with draft(target, tiny_deployment("onnxruntime")) as artifact:
        artifact.add_graph(onnx.helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9))
        artifact.add_preprocessing({"model_type": "vit"}, lambda folder: None)
        artifact.add_predict(IMAGE, LABELS)
        artifact.add_samples(Samples({"pixel_values": values}, values.reshape(2, 48) @ IMAGE_HEAD))
        artifact.finish(tiny_manifest(input_shapes={"pixel_values": [1, 3, 4, 4]}, sequence_length=TOKENS))
    return target


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("made")
    Image.fromarray(PIXELS).save(folder / "picture.png")
    return {"text": make_text(folder / "text"), "image": make_image(folder / "image"), "picture": folder / "picture.png"}


def python(folder: Path, *command: str, refused: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Beside the artifact, not in it."""
    site = folder.parent / "site"
    site.mkdir(exist_ok=True)
    rest = set(REFUSED) - {"tokenizers"} | {"instatune_deploy", *refused}
    (site / "sitecustomize.py").write_text(SITE.format(refused=sorted(rest)), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False, cwd=site, env=environment)


def run(folder: Path, *arguments: str, refused: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return python(folder, str(folder / "predict.py"), *arguments, refused=refused)


def softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def shares_of(texts: list[str]) -> np.ndarray:
    words = [[WORDS[word] for word in text.split()][:TOKENS] for text in texts]
    ids = np.array([row + [0] * (TOKENS - len(row)) for row in words])
    mask = (np.arange(TOKENS) < np.array([[len(row)] for row in words])).astype(np.float32)
    return softmax((TABLE[ids] * mask[..., None]).mean(axis=1) @ HEAD)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_what_it_says_of_texts(tmp_path: Path, runtime: str) -> None:
    done = run(make_text(tmp_path / "made", runtime), *TEXTS)
    assert done.returncode == 0, done.stderr
    expected = [f"{LABELS[row.argmax()]} {row.max():.1%}\t{text}" for row, text in zip(shares_of(TEXTS), TEXTS, strict=True)]
    assert done.stdout.splitlines() == expected


def test_what_it_says_of_images(made: dict[str, Path]) -> None:
    done = run(made["image"], str(made["picture"]), str(made["picture"]))
    assert done.returncode == 0, done.stderr
    values = (PIXELS.astype(np.float32) / 255 - 0.5) / 0.5
    row = softmax(values.transpose(2, 0, 1).reshape(1, 48) @ IMAGE_HEAD)[0]
    assert done.stdout.splitlines() == [f"{LABELS[row.argmax()]} {row.max():.1%}\t{made['picture']}"] * 2


IMPORTED = """
import sys
sys.path.insert(0, sys.argv[1])
from predict import graph, load, predict
print(predict(sys.argv[2:], load(graph)).tolist())
"""


def test_it_is_a_module_too(tmp_path: Path) -> None:
    """Three texts, two in a batch."""
    folder = make_text(tmp_path / "made", batch_size=2)
    done = python(folder, "-c", IMPORTED, str(folder), *TEXTS)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(json.loads(done.stdout), shares_of(TEXTS), atol=1e-5)
    (folder / "preprocessing.json").unlink()
    done = python(folder, "-c", IMPORTED, str(folder), *TEXTS)
    assert done.stderr.splitlines()[-1] == "ImportError: preprocessing.json: missing, or cannot be read"


def _flip(name: str) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)

    return spoil


def _truncate(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-9])


def _resealed(folder: Path) -> None:
    """With a right checksum of its own, and a wrong one of the graph."""
    files = json.loads((folder / "manifest.json").read_text())["files"]
    edit(folder, files={**files, "model.onnx": {**files["model.onnx"], "sha256": "0" * 64}})
    reseal_raw(folder / "manifest.json")


def _unlisted(folder: Path) -> None:
    edit(folder, files={})
    reseal_raw(folder / "manifest.json")


CHANGED = "its content was changed"
SPOILED: list[tuple[Callable[[Path], object], int, str]] = [
    (_flip("model.onnx"), 4, f"model.onnx: {CHANGED}"),
    (_truncate("model.onnx"), 4, f"model.onnx: {CHANGED}"),
    (_truncate("tokenizer.json"), 4, f"tokenizer.json: {CHANGED}"),
    (_flip("preprocessing.json"), 4, f"preprocessing.json: {CHANGED}"),
    (lambda folder: (folder / "preprocessing.json").unlink(), 4, "preprocessing.json: missing"),
    (lambda folder: (folder / "tokenizer.json").unlink(), 4, "tokenizer.json: missing"),
    (_resealed, 4, f"model.onnx: {CHANGED}"),
    (_unlisted, 4, f"preprocessing.json: {CHANGED}"),
    (lambda folder: edit(folder, threads=2), 4, "manifest.json: damaged or edited"),
    (lambda folder: edit(folder, schema_version=SCHEMA_VERSION + 1), 4, "manifest.json: of a newer schema"),
    (lambda folder: edit(folder, files=[]), 4, "manifest.json: damaged"),
    (lambda folder: (folder / "manifest.json").write_text("{"), 4, "manifest.json: damaged"),
    (lambda folder: (folder / "manifest.json").write_text("[]"), 4, "manifest.json: damaged"),
    (lambda folder: (folder / "manifest.json").unlink(), 2, "not an artifact (it has no file manifest.json)"),
]


def one_line(done: subprocess.CompletedProcess[str], code: int, message: str) -> None:
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert message in done.stderr
    assert done.stderr.startswith("Error: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(("spoil", "code", "message"), SPOILED)
def test_one_clear_line(made: dict[str, Path], tmp_path: Path, spoil: Callable[[Path], object], code: int, message: str) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(made["text"], folder)
    spoil(folder)
    one_line(run(folder, "a film"), code, message)


def test_weights_beside_the_graph_are_proved_too(tmp_path: Path) -> None:
    folder = make_text(tmp_path / "made", "openvino")
    _flip("openvino_model.bin")(folder)
    one_line(run(folder, "a film"), 4, f"openvino_model.bin: {CHANGED}")


@pytest.mark.parametrize("kind", ["text", "image"])
def test_how_it_is_used(made: dict[str, Path], kind: str) -> None:
    done = run(made[kind])
    assert (done.returncode, done.stdout) == (2, "")
    assert "    python predict.py " in done.stderr


@pytest.mark.parametrize(
    ("kind", "package", "library"),
    [
        ("text", "numpy", "tokenizers"),
        ("text", "onnxruntime", "tokenizers"),
        ("text", "tokenizers", "tokenizers"),
        ("image", "PIL", "Pillow"),
    ],
)
def test_without_what_it_needs(made: dict[str, Path], kind: str, package: str, library: str) -> None:
    done = run(made[kind], "any", refused=(package,))
    one_line(done, 2, f"Error: {package} cannot be imported: pip install numpy {library} onnxruntime\n")


def test_of_itself_too(made: dict[str, Path], tmp_path: Path) -> None:
    """A word that was changed in it, so that it runs all the same."""
    folder = tmp_path / "copy"
    shutil.copytree(made["text"], folder)
    text = (folder / "predict.py").read_text(encoding="utf-8")
    assert ".argmax()" in text
    (folder / "predict.py").write_text(text.replace(".argmax()", ".argmin()"), encoding="utf-8")
    one_line(run(folder, "a film"), 4, f"predict.py: {CHANGED}")


@pytest.mark.parametrize("mode", ["F", "I"])
def test_pixels_without_a_known_white(made: dict[str, Path], tmp_path: Path, mode: str) -> None:
    path = tmp_path / "odd.tiff"
    Image.fromarray(np.full((4, 4), 70000, np.float32 if mode == "F" else np.int32)).save(path)
    one_line(run(made["image"], str(path)), 2, f"{path}: not an image that can be opened: ")


@pytest.mark.parametrize("content", [None, b"", b"not a picture", b"cut"])
def test_what_is_no_image_is_named(made: dict[str, Path], tmp_path: Path, content: bytes | None) -> None:
    """Missing, empty, something else, cut in the middle."""
    path = tmp_path / "odd.png"
    if content is not None:
        path.write_bytes(made["picture"].read_bytes()[:60] if content == b"cut" else content)
    one_line(run(made["image"], str(made["picture"]), str(path)), 2, f"{path}: not an image that can be opened: ")


def test_what_the_runtime_refuses_is_one_line(made: dict[str, Path], tmp_path: Path) -> None:
    """A graph that is as it was listed, and none."""
    folder = tmp_path / "copy"
    shutil.copytree(made["text"], folder)
    (folder / "model.onnx").write_bytes(b"none")
    files = json.loads((folder / "manifest.json").read_text())["files"]
    from instatune_deploy.digests import file_sha256

    edit(folder, files={**files, "model.onnx": {"sha256": file_sha256(folder / "model.onnx"), "bytes": 4}})
    reseal_raw(folder / "manifest.json")
    one_line(run(folder, "a film"), 2, "model.onnx")
