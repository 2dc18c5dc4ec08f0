from __future__ import annotations

import json
import zipfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from instatune_deploy.artifact.graph_files import GRAPH_FILES
from instatune_deploy.artifact.manifest import read_manifest
from instatune_deploy.artifact.samples import Samples
from instatune_deploy.cli import main
from instatune_deploy.devices.runtimes.base import Refused
from instatune_deploy.devices.runtimes.registry import open_session
from instatune_deploy.errors import BadInput
from instatune_deploy.files import read_json
from instatune_deploy.pipeline.handover import Handover

from .fakes import Place


def test_a_repository_of_what_its_server_can_run(place: Place) -> None:
    """The device has both runtimes; OpenVINO Model Server has one, and the network is searched for that."""
    place.job("5ms", layout="ovms", name="reviews").run()
    assert read_manifest(place.artifact).runtime == "openvino"
    (entry,) = read_json(place.output / "tiny-cpu-ovms" / "config.json")["model_config_list"]
    assert entry["config"]["name"] == "reviews"
    assert {deployment.runtime for deployment in place.fake.measured[24:]} <= {"openvino"}


def test_a_repository_has_an_archive_of_its_own(place: Place) -> None:
    """Beside that of the plain artifact, which is the one that proves itself."""
    place.job("5ms", layout="ovms", archive=True).run()
    assert {path.name for path in place.output.glob("*.zip")} == {"tiny-cpu.zip", "tiny-cpu-ovms.zip"}


def test_an_archive_is_the_same_for_the_same_artifact(place: Place) -> None:
    place.job("4ms", archive=True).run()
    path = place.output / "tiny-cpu.zip"
    first = path.read_bytes()
    path.unlink()
    place.job("4ms", archive=True).run()
    assert path.read_bytes() == first
    with zipfile.ZipFile(path) as archive:
        assert "manifest.json" in archive.namelist()
    done = CliRunner().invoke(main, ["verify", str(path), "--json"])
    said = json.loads(done.stdout)
    assert said["folder"] == str(path)
    assert [check for check in said["checks"] if check["name"].startswith("file ") and not check["ok"]] == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "triton", "name": "a/b"}, "model name 'a/b': letters, digits"),
        ({"name": "reviews"}, "--model-name is that of a model in a server's repository: give --layout ovms or triton"),
    ],
)
def test_found_before_anything_is_trained(place: Place, options: dict[str, str], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        place.job("5ms", **options)


def test_a_device_that_the_server_does_not_serve(place: Place, tmp_path: Path) -> None:
    device = place.job("5ms").devices[0]
    only = [run for run in device.runs if run.runtime == "onnxruntime"]
    with pytest.raises(BadInput, match=r"layout 'ovms' serves openvino on cpu in .*; device 'tiny-cpu' has onnxruntime fp32"):
        Handover(tmp_path, "ovms").served(replace(device, runs=tuple(only)))


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("opened", [("batch",), ("tokens",), ("batch", "tokens")])
def test_other_sizes_give_the_same_answers(place: Place, runtime: str, opened: tuple[str, ...]) -> None:
    """The samples in one batch, with less padding: what PyTorch said of each, padded to 24 tokens."""
    place.job("6ms", layout="ovms" if runtime == "openvino" else "plain", opened=opened).run()
    if runtime == "onnxruntime":
        only = place.folder / "only.yaml"
        only.write_text("name: only\ndescription: x\nruns: [{runtime: onnxruntime}]\nthreads: 1\nsequence_length: 24\n")
        options = ["--dynamic-batch"] * ("batch" in opened) + ["--dynamic-length"] * ("tokens" in opened)
        places = ["--pipeline", str(place.pipeline), "--work", str(place.work), "--output", str(place.output)]
        done = CliRunner().invoke(main, [*places, "--device", str(only), *options])
        assert done.exit_code == 0, done.stderr
    artifact = place.output / ("only" if runtime == "onnxruntime" else "tiny-cpu")
    manifest, samples = read_manifest(artifact), Samples.read(artifact)
    assert (manifest.runtime, manifest.open_axes) == (runtime, list(opened))
    assert manifest.input_shapes["input_ids"] == [1, 24]
    tokens = int(samples.inputs["attention_mask"].sum(axis=1).max()) if "tokens" in opened else 24
    rows = samples.rows if "batch" in opened else 1
    inputs = {name: values[:rows, :tokens].copy() for name, values in samples.inputs.items()}
    with closing(open_session(GRAPH_FILES[runtime].path(artifact), runtime, "fp32", 1)) as session:
        expected = dict.fromkeys(inputs, (None if "batch" in opened else 1, None if "tokens" in opened else 24))
        assert session.input_shapes == expected
        np.testing.assert_allclose(session.run(inputs)["logits"], samples.logits[:rows], atol=1e-4)
    if "batch" not in opened:
        with closing(open_session(GRAPH_FILES[runtime].path(artifact), runtime, "fp32", 1)) as session, pytest.raises(Refused):
            session.run({name: np.concatenate([values, values]) for name, values in inputs.items()})


def test_what_is_calibrated_for_one_shape_is_not_open(place: Place, tmp_path: Path) -> None:
    device = place.job("5ms").devices[0]
    int8 = replace(device, runs=(device.runs[0]._replace(precision="int8"),))
    with pytest.raises(BadInput, match="only fp32, bf16 and fp16 on CPUs take any size; device 'tiny-cpu' has"):
        Handover(tmp_path, opened=("batch",)).served(int8)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no archive", "x.zip: neither a folder nor a zip file"),
        (b"", "x.zip: neither a folder nor a zip file"),
        (b"PK\3\4 torn", "x.zip: cannot be read as a zip file: "),
    ],
)
def test_what_is_no_archive(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(content)
    done = CliRunner().invoke(main, ["verify", str(path)])
    assert done.exit_code == 2
    assert message in done.stderr


def test_an_archive_that_leads_outside_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../secret", "x")
    done = CliRunner().invoke(main, ["verify", str(path)])
    assert (done.exit_code, "not safe: it has a member named '../secret'" in done.stderr) == (2, True)
    assert [item.name for item in tmp_path.iterdir()] == ["x.zip"]
