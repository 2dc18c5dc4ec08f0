"""From images to an artifact: the whole flow on a tiny ViT, its graphs really made, proved and run."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from instatune_deploy.artifact.manifest import read_manifest
from instatune_deploy.artifact.samples import Samples
from instatune_deploy.artifact.verify import verify
from instatune_deploy.devices.plan import inputs_name
from instatune_deploy.devices.profile import load_profile
from instatune_deploy.devices.runtimes.registry import open_session
from instatune_deploy.errors import BadInput, UserError
from instatune_deploy.pipeline.handover import Handover
from instatune_deploy.pipeline.inputs import load_inputs, load_pipeline
from instatune_deploy.pipeline.job import Job
from instatune_deploy.pipeline.kit import make_kit
from instatune_deploy.pipeline.training import new_head, trained_on
from instatune_deploy.terminal import Terminal

from .conftest import installed
from .fakes import FakeDevice, Place, write_profile

PIPELINE = """\
task: image-classification
model:
  reference: {model}
data:
  reference: {data}
  split: {{validation: 20}}
  image_size: 12
  augmentation: flip
finetune:
  max_steps: 6
  batch_size: 16
  learning_rate: 1e-3
  importance_rows: 16
search:
  initial: 8
  per_round: 4
  rounds: 1
  population: 20
  generations: 10
"""
PROCESSOR = {
    "image_processor_type": "BitImageProcessor",
    "size": {"shortest_edge": 20},
    "do_center_crop": True,
    "crop_size": {"height": 16, "width": 16},
    "resample": 3,
}


def write_photos(folder: Path) -> Path:
    """Light and dark noise, 40 to train on and 20 to test."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 60), ("test", 20)):
        for label, around in (("dark", 60), ("light", 190)):
            (folder / split / label).mkdir(parents=True)
            for index in range(count // 2):
                pixels = np.clip(rng.normal(around, 40, (22, 18, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / split / label / f"{index}.png")
    return folder


def write_images(folder: Path, model: Any) -> Path:
    """A pipeline file on ``model``, a checkpoint with an image processor, and the photos."""
    model.save_pretrained(folder / "vit")
    (folder / "vit" / "preprocessor_config.json").write_text(json.dumps(PROCESSOR), encoding="utf-8")
    pipeline = folder / "images.yaml"
    pipeline.write_text(PIPELINE.format(model=folder / "vit", data=write_photos(folder / "photos")), encoding="utf-8")
    return pipeline


@pytest.fixture(scope="module")
def seen(make_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("images")
    pipeline = write_images(folder, make_model("vit", image_size=16, num_labels=3))
    with pytest.MonkeyPatch.context() as patch:
        place = Place(folder, pipeline, installed(patch, FakeDevice()))
        place.job("5ms").run()
    return place


def test_the_artifact_is_of_pixels(seen: Place) -> None:
    manifest = read_manifest(seen.artifact)
    assert manifest.task == "image-classification"
    assert manifest.input_shapes == {"pixel_values": [1, 3, 12, 12]}
    assert manifest.deployment.sequence_length == 3 * 3 + 1
    assert manifest.data is not None
    assert manifest.data.rows == {"train": 40, "validation": 20, "test": 20}
    assert "batch 1, 12 x 12 px" in seen.said
    assert "the checkpoint's classifier has 3 labels, the data 2: a new one is made" in seen.said
    assert verify(seen.artifact, seen.fake.verify_again).ok


def test_weights_of_images_depend_on_pillow(seen: Place) -> None:
    inputs = load_inputs(load_pipeline(str(seen.pipeline)), seen.work)
    assert set(trained_on(inputs, 0, False)["versions"]) == {"instatune-deploy", "torch", "transformers", "accelerate", "pillow"}


def test_predict_says_what_pytorch_said_of_the_samples(seen: Place) -> None:
    rows = json.loads((seen.artifact / "samples.json").read_text(encoding="utf-8"))
    shown = [row for row in rows if "image" in row]
    assert len(shown) == 8
    paths = [str(seen.artifact / row["image"]) for row in shown]
    command = [sys.executable, str(seen.artifact / "predict.py"), *paths]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    labels = read_manifest(seen.artifact).labels
    for line, row in zip(done.stdout.splitlines(), shown, strict=True):
        raised = np.exp(np.array(row["logits"]) - max(row["logits"]))
        best = int(raised.argmax())
        said, share = line.split("\t")[0].split()
        assert said == labels[best]
        assert float(share.rstrip("%")) == pytest.approx(100 * raised[best] / raised.sum(), abs=0.11)


def test_top5_where_there_are_more_than_five_labels(seen: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two of the six labels have rows, and the training raises their logits only: what is true is always among five."""
    assert read_manifest(seen.artifact).accuracy.top5 == {}
    text = seen.pipeline.read_text(encoding="utf-8").replace("  image_size", "  labels: [a, b, c, dark, e, light]\n  image_size")
    (tmp_path / "six.yaml").write_text(text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        place = Place(tmp_path, tmp_path / "six.yaml", installed(patch, FakeDevice()))
        place.job("5ms").run()
    assert read_manifest(place.artifact).accuracy.top5 == {"validation": 1.0, "test": 1.0}
    assert "the artifact's top-5 accuracy: 100.0% validation, 100.0% test" in capsys.readouterr().out


def test_samples_are_what_the_image_processor_of_the_artifact_makes(seen: Place) -> None:
    """Transformers' own, by the file that was handed over."""
    from transformers import AutoImageProcessor

    processor = AutoImageProcessor.from_pretrained(seen.artifact, use_fast=False)
    samples = Samples.read(seen.artifact).inputs["pixel_values"]
    for index in range(3):
        image = Image.open(seen.artifact / "samples" / f"{index}.png")
        made = processor(image, return_tensors="np")["pixel_values"][0]
        np.testing.assert_allclose(samples[index], made, atol=1e-5)


def test_of_an_image_only_the_batch_can_be_open(seen: Place) -> None:
    with pytest.raises(UserError, match="image-classification: the graph's tokens cannot be left open"):
        seen.job(opened=("tokens",)).run()


@pytest.mark.parametrize(
    ("kind", "labels", "said"),
    [
        ("Dinov2Model", 7, None),
        ("Dinov2ForImageClassification", 7, "the checkpoint's classifier has 7 labels, the data 2: a new one is made"),
        (
            "Dinov2ForImageClassification",
            2,
            "the checkpoint's classifier reads more than the class token, which is all that a ViT's does: a new one is made",
        ),
    ],
)
def test_a_dinov2_checkpoint_is_made_a_vit(seen: Place, tmp_path: Path, kind: str, labels: int, said: str | None) -> None:
    import transformers

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_ratio": 2}
    config = transformers.Dinov2Config(**sizes, image_size=16, patch_size=4, num_labels=labels)
    getattr(transformers, kind)(config).save_pretrained(tmp_path / "dinov2")
    text = seen.pipeline.read_text(encoding="utf-8").replace(str(seen.folder / "vit"), str(tmp_path / "dinov2"))
    (tmp_path / "dinov2.yaml").write_text(text, encoding="utf-8")
    settings = load_pipeline(str(tmp_path / "dinov2.yaml"))
    inputs = load_inputs(settings, tmp_path)
    assert json.loads((inputs.model_folder / "config.json").read_text(encoding="utf-8"))["model_type"] == "vit"
    assert inputs.task.tokens(12) == 10
    assert new_head(inputs) == said
    with pytest.raises(BadInput, match="has no work folder"):
        load_inputs(settings)


def test_the_size_of_the_images_is_searched_like_the_rest(seen: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """2 ms buy no network of 12 px; the promise is that of the size that was chosen."""
    text = seen.pipeline.read_text(encoding="utf-8").replace("search:", "space: {depths: [3], image_sizes: [4, 8]}\nsearch:")
    pipeline = seen.folder / "of-sizes.yaml"
    pipeline.write_text(text, encoding="utf-8")
    place = Place(seen.folder, pipeline, installed(monkeypatch, FakeDevice()), ("sizes",))
    place.job("2ms").run()
    assert "images of 4/8/12 px" in place.said
    manifest = read_manifest(place.artifact)
    edge = manifest.architecture.image_size
    assert edge in (4, 8)
    assert manifest.input_shapes == {"pixel_values": [1, 3, edge, edge]}
    assert manifest.sequence_length == (edge // 4) ** 2 + 1
    assert json.loads((place.artifact / "config.json").read_text(encoding="utf-8"))["image_size"] == edge
    assert json.loads((place.artifact / "preprocessing.json").read_text(encoding="utf-8"))["crop"] == [edge, edge]
    assert verify(place.artifact, place.fake.verify_again).ok
    measured = {deployment.architecture.image_size for deployment in place.fake.measured}
    assert measured == {4, 8, 12}
    # another budget finds again what was measured for this one, of all sizes
    before = set(place.fake.measured)
    place.fake.measured.clear()
    place.job("2.5ms").run()
    assert not before.intersection(place.fake.measured)
    assert "48 deployments" not in place.said


def test_a_kit_has_inputs_of_every_size(seen: Place, tmp_path: Path) -> None:
    """Each graph runs with the file that the script takes for it."""
    text = seen.pipeline.read_text(encoding="utf-8").replace("search:", "space: {depths: [3], image_sizes: [4, 8]}\nsearch:")
    (tmp_path / "sizes.yaml").write_text(text, encoding="utf-8")
    terminal = Terminal(Console(file=io.StringIO()))
    profile = write_profile(tmp_path, "far")
    job = Job.of(str(tmp_path / "sizes.yaml"), (), None, Handover(tmp_path), seen.work, 0, terminal)
    kit = make_kit(job, load_profile(str(profile)), tmp_path, architectures=8)
    with zipfile.ZipFile(kit.path) as archive:
        archive.extractall(tmp_path / "kit")
    sizes = set()
    for item in {item.graph_hash: item for item in kit.plan.items}.values():
        name = inputs_name(item.deployment)
        assert name in kit.plan.files
        with (
            np.load(tmp_path / "kit" / name) as inputs,
            closing(open_session(tmp_path / "kit" / item.graph, *item.run)) as session,
        ):
            assert session.run(dict(inputs))["logits"].shape == (1, 2)
            sizes.add((name, inputs["pixel_values"].shape[-1], item.deployment["sequence_length"]))
    assert sizes == {("inputs-4.npz", 4, 2), ("inputs-8.npz", 8, 5), ("inputs-12.npz", 12, 10)}


def test_a_profile_may_say_the_size(seen: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The positions follow; nothing is trained again."""
    place = Place(seen.folder, seen.pipeline, installed(monkeypatch, FakeDevice()), ("small-eyes",), "image_size: 8\n")
    place.job("5ms").run()
    assert "fine-tuned before" in place.said
    manifest = read_manifest(place.artifact)
    assert manifest.input_shapes == {"pixel_values": [1, 3, 8, 8]}
    assert {deployment.architecture.image_size for deployment in place.fake.measured} == {8}
    assert manifest.baseline.image_size == 8
    assert "at 8 px" in (place.artifact / "README.md").read_text(encoding="utf-8")
    assert "hardware profile 'small-eyes': images of 8 px are not trained on; space.image_sizes: [8] does it" in place.said
    place.more = "image_size: 16\n"
    place.job("9ms").run()
    assert "hardware profile 'small-eyes': image_size 16 is more than the 12 px that are trained on; 12 it is" in place.said
    place.more = "image_size: 9\n"
    with pytest.raises(
        BadInput, match="hardware profile 'small-eyes': image_size: 9 px are no multiple of the model's patch of 4"
    ):
        place.job("5ms").run()


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("image-classification", "text-classification", "data.image_size is for image-classification"),
        ("image_size: 12", "max_length: 12", "data.max_length is for text-classification"),
        ("image_size: 12", "format: csv", "data.format: no 'csv' for image-classification; there are folder, idx, parquet"),
        ("image_size: 12", "image_size: 13", "data.image_size: 13 px are no multiple of the model's patch of 4 px; 12 or 16 are"),
        ("augmentation: flip", "image: [a]", "data.image"),
        ("  image_size: 12", "model:\n  trim_vocabulary: true", "model"),
    ],
)
def test_one_clear_line(seen: Place, tmp_path: Path, before: str, after: str, message: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(seen.pipeline.read_text(encoding="utf-8").replace(before, after), encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load_inputs(load_pipeline(str(path)), tmp_path)
    assert message in caught.value.message
    assert "\n" not in caught.value.message


def test_its_repository_for_triton(seen: Place) -> None:
    seen.job("6ms", layout="triton").run()
    text = (seen.output / "tiny-cpu-triton" / "tiny-cpu" / "config.pbtxt").read_text(encoding="utf-8")
    assert '{ name: "pixel_values" data_type: TYPE_FP32 dims: [ 1, 3, 12, 12 ] }' in text
    assert "promised for 1, 3, 12, 12 (batch, channels, height, width)" in text
