"""`--embed-preprocessing`: from images to an artifact whose graph takes them whole, on a tiny ViT."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from instatune_deploy.artifact.graph_files import GRAPH_FILES
from instatune_deploy.artifact.manifest import read_manifest
from instatune_deploy.artifact.samples import Samples
from instatune_deploy.artifact.verify import verify
from instatune_deploy.cli import main
from instatune_deploy.config import ProfileSettings
from instatune_deploy.devices.host import this_host
from instatune_deploy.devices.measure import Laboratory
from instatune_deploy.devices.profile import resolve
from instatune_deploy.devices.runs import Run
from instatune_deploy.devices.runtimes.registry import open_session
from instatune_deploy.devices.store import MeasurementStore
from instatune_deploy.errors import BadInput
from instatune_deploy.pipeline.bench import Bench
from instatune_deploy.pipeline.embedding import Embedding, parse_source
from instatune_deploy.pipeline.inputs import load_inputs, load_pipeline
from instatune_deploy.pipeline.supernet import load_supernet
from instatune_deploy.supernet.architecture import Architecture

from .conftest import installed
from .fakes import FakeDevice, Place
from .test_images import write_images

PHOTOS = 22, 18
LARGER = 31, 40
FP32, OPENVINO, INT8 = Run("onnxruntime", "fp32", 1), Run("openvino", "fp32", 1), Run("onnxruntime", "int8", 1)
SMALL = Architecture((0, 3), (2, 4), (42, 64), 12)


@pytest.fixture(scope="module")
def whole(make_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("whole")
    pipeline = write_images(folder, make_model("vit", image_size=16, num_labels=2))
    with pytest.MonkeyPatch.context() as patch:
        place = Place(folder, pipeline, installed(patch, FakeDevice()))
        place.job("5ms", embeds=True).run()
    return place


@pytest.fixture
def copied(whole: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    shutil.copytree(whole.folder, tmp_path / "copy")
    return replace(whole, folder=tmp_path / "copy", fake=installed(monkeypatch, FakeDevice()))


def test_the_artifact_takes_whole_images(whole: Place) -> None:
    assert "the preprocessing is part of the graph, which takes images of 22 x 18 px" in whole.said
    manifest = read_manifest(whole.artifact)
    assert manifest.input_shapes == {"images": [1, *PHOTOS, 3]}
    assert manifest.input_types == {"images": "uint8"}
    assert manifest.parity.max_abs_diff < 1e-4
    assert verify(whole.artifact, whole.fake.verify_again).ok
    # nothing would do the graph's work a second time
    assert not (whole.artifact / "preprocessor_config.json").exists()
    embedded = json.loads((whole.artifact / "preprocessing.json").read_text(encoding="utf-8"))["embedded"]
    assert (embedded["resize"], embedded["crop"]) == (15, [12, 12])


def test_predict_says_what_pytorch_said_of_the_samples(whole: Place) -> None:
    rows = [row for row in json.loads((whole.artifact / "samples.json").read_text(encoding="utf-8")) if "image" in row]
    paths = [str(whole.artifact / row["image"]) for row in rows]
    command = [sys.executable, str(whole.artifact / "predict.py"), *paths]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    labels = read_manifest(whole.artifact).labels
    for line, row in zip(done.stdout.splitlines(), rows, strict=True):
        shares = torch.tensor(row["logits"]).softmax(dim=0)
        said, share = line.split("\t")[0].split()
        assert said == labels[int(shares.argmax())]
        assert float(share.rstrip("%")) == pytest.approx(100 * float(shares.max()), abs=0.11)


def test_samples_are_the_images_themselves(whole: Place) -> None:
    samples = Samples.read(whole.artifact).inputs["images"]
    assert samples.dtype == np.uint8
    for index in range(3):
        np.testing.assert_array_equal(samples[index], np.asarray(Image.open(whole.artifact / "samples" / f"{index}.png")))


def test_what_was_measured_without_is_another_thing(copied: Place) -> None:
    """The same again is reused; another size, or none, is measured and made anew."""
    copied.job("5ms", embeds=True, source=PHOTOS).run()
    assert "reused" in copied.said
    assert copied.fake.measured == []
    copied.job("5ms", embeds=True, source=LARGER).run()
    assert copied.fake.measured != []
    assert read_manifest(copied.artifact).input_shapes == {"images": [1, *LARGER, 3]}
    assert verify(copied.artifact, copied.fake.verify_again).ok
    count = len(copied.fake.measured)
    copied.job("5ms").run()
    assert len(copied.fake.measured) > count
    assert read_manifest(copied.artifact).input_shapes == {"pixel_values": [1, 3, 12, 12]}


def test_with_an_open_batch(copied: Place) -> None:
    copied.job("6ms", embeds=True, opened=("batch",)).run()
    manifest, samples = read_manifest(copied.artifact), Samples.read(copied.artifact)
    assert manifest.open_axes == ["batch"]
    path = GRAPH_FILES[manifest.runtime].path(copied.artifact)
    with closing(open_session(path, *manifest.deployment.run)) as session:
        assert session.input_shapes == {"images": (None, *PHOTOS, 3)}
        np.testing.assert_allclose(session.run(dict(samples.inputs))["logits"], samples.logits, atol=1e-4)


@pytest.fixture(scope="module")
def bench(whole: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("bench")
    runs = [{"runtime": run.runtime, "precision": run.precision} for run in (FP32, OPENVINO, INT8)]
    profile = ProfileSettings.model_validate({"name": "x", "description": "", "runs": runs, "threads": 1, "batch_size": 2})
    inputs = load_inputs(load_pipeline(str(whole.pipeline)))
    inputs = replace(inputs, embedding=Embedding.of(LARGER, inputs.task))
    device = inputs.on(resolve(profile, this_host()))
    supernet = load_supernet(next((whole.work / "supernets").iterdir()))
    with MeasurementStore(folder / "measurements.sqlite") as store, closing(Laboratory(store)) as laboratory:
        yield Bench(inputs, supernet, device, laboratory)


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize("run", [FP32, OPENVINO, INT8])
def test_graphs_say_of_images_what_the_network_says_of_pixels(bench: Bench, run: Run, finished: bool) -> None:
    """Also where it was quantised; its preprocessing is not."""
    images, embedding = bench.example(SMALL), bench.inputs.embedding
    assert embedding is not None
    assert images["images"].shape == (2, *LARGER, 3)
    made = []
    for each in (bench, replace(bench, inputs=replace(bench.inputs, embedding=None))):
        made.append(each.finished_graph(SMALL, run) if finished else each.graph(SMALL, run).model())
    logits = []
    for model, inputs in zip(made, (images, embedding.pixels(images, 12)), strict=True):
        with closing(open_session(model.SerializeToString(), *run)) as session:
            logits.append(session.run(inputs)["logits"])
    # a rounding of fp32 may be a step of int8
    np.testing.assert_allclose(*logits, rtol=0, atol=0.02 if run == INT8 else 1e-5)


def test_it_is_really_measured(bench: Bench) -> None:
    """In a process of its own, on the graph with the preprocessing in it."""
    measured = bench.latency(SMALL, FP32)
    assert measured.timing is not None
    assert bench.latency(SMALL, FP32).key == measured.key


@pytest.mark.parametrize("run", [FP32, OPENVINO, INT8])
def test_accuracy_is_that_on_the_images_that_come_before_the_graph(bench: Bench, run: Run) -> None:
    """Of another size than the data's they are resized first: what is searched is what ships."""
    embedding = bench.inputs.embedding
    assert embedding is not None
    labels = bench.task.labels["validation"]
    assert embedding.other_sizes() == len(labels)
    with closing(open_session(bench.finished_graph(SMALL, run).SerializeToString(), *run)) as session:
        found = bench.logits(SMALL, session, "validation")
    exact = run != INT8  # calibrated afresh
    assert bench.accuracy(SMALL, run, "validation") == pytest.approx(
        (found.argmax(axis=1) == labels).mean(), abs=0 if exact else 0.1
    )
    without = replace(bench, inputs=replace(bench.inputs, embedding=None))
    assert bench.graph_hash(SMALL, run) != without.graph_hash(SMALL, run)
    own = replace(bench, inputs=replace(bench.inputs, embedding=Embedding.of(PHOTOS, bench.task)))
    assert own.inputs.embedding.other_sizes() == 0
    assert own.accuracy(SMALL, run, "validation") == without.accuracy(SMALL, run, "validation")
    assert len({each._how(SMALL, run, "validation") for each in (bench, without, own)}) == 3


def test_of_texts_it_is_one_clear_line(place: Place) -> None:
    with pytest.raises(BadInput, match="--embed-preprocessing is for image-classification"):
        place.job("5ms", embeds=True).run()


def test_images_of_several_sizes_need_one_to_be_said(copied: Place) -> None:
    photos = copied.folder / "photos" / "train"
    for path in photos.rglob("*.png"):
        Image.open(path).resize((30, int(path.stem) + 20)).save(path)
    text = copied.pipeline.read_text(encoding="utf-8").replace(str(copied.pipeline.parent / "photos"), str(photos.parent))
    pipeline = copied.folder / "sizes.yaml"
    pipeline.write_text(text, encoding="utf-8")
    task = load_inputs(load_pipeline(str(pipeline))).task
    with pytest.raises(BadInput, match=r"several sizes, as (\d+x30) and \d+x30; give one: --embed-preprocessing \1$"):
        Embedding.of(None, task)
    assert Embedding.of((9, 8), task).arrays("validation", 12, [0, 1])["images"].shape == (2, 9, 8, 3)


def test_what_follows_the_option() -> None:
    assert parse_source("480x640") == (480, 640)
    assert parse_source("data") is None
    for text in ("", "480", "480x", "0x5", "480 x 640", "1x8193", "-1x5", "480X640"):
        with pytest.raises(BadInput, match=r"expected height and width in pixels, 1 to 8192, as 480x640"):
            parse_source(text)


def test_on_the_command_line(whole: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a value, and without one before another option."""
    from instatune_deploy.pipeline.job import Job

    seen: list[Any] = []
    monkeypatch.setattr(Job, "of", lambda pipeline, devices, budget, handover, *rest: seen.append(handover) or 1 / 0)
    for words in (
        ["--embed-preprocessing", "--device", "x"],
        ["--embed-preprocessing", "9x8", "--device", "x"],
        ["--device", "x"],
    ):
        CliRunner().invoke(main, words)
    assert [(item.embeds, item.source) for item in seen] == [(True, None), (True, (9, 8)), (False, None)]
    done = CliRunner().invoke(main, ["--device", "x", "--embed-preprocessing", "large"])
    assert done.exit_code == 2
    assert done.stderr.splitlines() == [
        "Error: --embed-preprocessing large: expected height and width in pixels, 1 to 8192, as 480x640"
    ]
