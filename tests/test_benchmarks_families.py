"""The benchmarks of other families than texts: how they are told apart, and smoke runs on a tiny ViT."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.artifact import promise
from benchmarks.families import FAMILIES, TEXT, VIT
from benchmarks.finetune import cost, macs, peers, sharing
from benchmarks.finetune.harness import command
from benchmarks.finetune.latency import Latencies, kind_of
from benchmarks.finetune.subjects import TINY_IMAGES, pipeline
from benchmarks.finetune.trainings import Training
from benchmarks.main.job import pipeline_file
from benchmarks.profile import carve
from benchmarks.readme import TABLES
from benchmarks.search import pool, predictors
from instatune_deploy.devices.measure import Laboratory
from instatune_deploy.devices.store import open_store
from instatune_deploy.pipeline.inputs import load_inputs, load_pipeline
from instatune_deploy.tasks.idx_files import read_idx
from instatune_deploy.terminal import Terminal

NAMES = ("finetune-cost", "finetune-sharing", "finetune-macs", "profile-carve", "search-predictors", "artifact-promise")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared, as by people: what one script made is not made again for another."""
    return tmp_path_factory.mktemp("work")


def smoke(tmp_path: Path, script: Any, *arguments: str) -> dict[str, Any]:
    """The one result of a smoke run for the ViT family."""
    options = ["--family", "vit", "--quick", "--results", str(tmp_path), *arguments]
    done = CliRunner().invoke(script, options, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("| ")
    (path,) = tmp_path.glob("*.json")
    value: dict[str, Any] = {"name": path.stem, **json.loads(path.read_text())}
    return value


def test_results_are_named_by_their_family() -> None:
    assert [TEXT.result(name) for name in NAMES] == list(NAMES)
    vit = ["vit-cost", "vit-sharing", "vit-macs", "vit-carve", "vit-predictors", "vit-promise"]
    assert [VIT.result(name) for name in NAMES] == vit
    # shown as their counterparts are
    assert {name: TABLES[name][1] for name in vit} == {VIT.result(name): TABLES[name][1] for name in NAMES}
    assert pool.file_of(TEXT).name == "search-pool.parquet"
    assert pool.file_of(VIT).name == "vit-pool.parquet"


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_has_its_pipeline_a_tiny_subject_and_rows_of_the_paper(name: str, tmp_path: Path) -> None:
    family = FAMILIES[name]
    assert load_pipeline(family.pipeline).task == pipeline(family.tiny, {}, tmp_path).task
    full = macs.PAPER[family.pipeline][1][0]
    assert all(gmacs <= full[2] for _, _, gmacs in macs.PAPER[family.pipeline][1])


def test_what_the_paper_saved_of_vit() -> None:
    saved = {row["what"]: row["MACs saved %"] for row in macs.paper_rows("fashion")}
    assert saved == {"full network": 0.0, "loses nothing": 5.74, "loses at most 1 point": 11.65}


@pytest.mark.parametrize(
    "script", [command(cost.cost), carve.main, pool.main, promise.main], ids=["cost", "carve", "pool", "promise"]
)
def test_without_model_and_data_it_says_how_to_make_them(script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    work = [] if script is carve.main else ["--work", str(tmp_path / "work")]
    done = CliRunner().invoke(script, ["--family", "vit", *work])
    assert done.exit_code == 2
    assert done.stderr == (
        "Error: runs/vision/vit-s14 is not there; make model and data first: "
        "`python -m benchmarks.vision.checkpoint --output runs/vision/vit-s14 && "
        "python -m benchmarks.vision.fashion --output runs/vision/fashion-mnist`\n"
    )


def test_a_pool_of_images_is_made_for_images(tmp_path: Path) -> None:
    done = CliRunner().invoke(predictors.main, ["--family", "vit", "--pool", str(tmp_path / "none")])
    assert done.exit_code == 1
    assert done.stderr.endswith("make the pool first: python -m benchmarks.search.pool --family vit\n")


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        (cost.cost, ["--subject", "movies"], "Error: --subject: of this family there are fashion\n"),
        (peers.peers, ["--quick"], "Error: Torch-Pruning's best settings were looked for on texts only: leave --family out\n"),
    ],
)
def test_what_is_of_texts_only(script: Any, arguments: list[str], message: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(command(script), ["--family", "vit", "--work", str(tmp_path), *arguments])
    assert (done.exit_code, done.stderr) == (2, message)


def test_tiny_pictures_are_light_or_dark(tmp_path: Path) -> None:
    settings = pipeline(TINY_IMAGES, {}, tmp_path)
    found = read_idx(Path(settings.data.reference), settings.data)
    assert {split: len(images) for split, (images, _) in found.items()} == {"train": 96, "test": 24}
    images, labels = found["train"]
    means = np.array([np.asarray(image).mean() for image in images])
    assert (means[labels.to_numpy() == 0].max(), means[labels.to_numpy() == 1].min()) == (
        pytest.approx(62, abs=8),
        pytest.approx(188, abs=8),
    )


def test_figures_of_images_and_texts_of_one_hidden_size_are_kept_apart(work: Path) -> None:
    texts, images = (kind_of(Latencies(work / "quick", quick=True, family=family).made) for family in FAMILIES.values())
    assert texts == "32"
    assert images == "vit-10-64"  # 3 x 3 patches and the class token


def test_a_row_is_as_large_as_those_that_were_trained_on(work: Path) -> None:
    made = Latencies(work / "quick", quick=True, family=VIT).made
    assert made.example["pixel_values"].shape == (1, 3, 48, 48)
    shape = made.network.shape
    assert made.macs(shape.full()) == shape.macs_of(shape.full(), 10)


@pytest.mark.parametrize("name", ["cost", "sharing", "macs"])
def test_a_smoke_run_of_fine_tuning(name: str, work: Path, tmp_path: Path) -> None:
    keys = {
        "cost": {"step_time_ratio_low_cost", "step_time_ratio_high_cost"},
        "sharing": {"inherited_minus_standalone_points", "inherited_minus_strongest_points"},
        "macs": {"macs_saved_at_0_points", "macs_saved_at_0_5_points", "macs_saved_at_1_point", "latency_saved_at_0_5_points"},
    }
    script = {"cost": cost.cost, "sharing": sharing.sharing, "macs": macs.macs}[name]
    found = smoke(tmp_path, command(script), "--work", str(work), "--members", "1")
    assert found["name"] == f"vit-{name}"
    assert keys[name] <= set(found["summary"])
    assert found["settings"]["subjects"] == ["tiny-images"]
    assert found["settings"]["latency"].endswith(" 10 tokens")


def test_latencies_can_be_measured_before(work: Path) -> None:
    """Then other work no longer disturbs: nothing is left to measure."""
    options = ["--family", "vit", "--quick", "--work", str(work), "--latencies"]
    done = CliRunner().invoke(command(sharing.sharing), options, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert done.stdout.endswith("latencies are measured: other work no longer disturbs\n")
    again = CliRunner().invoke(command(sharing.sharing), options, catch_exceptions=False)
    assert again.stdout == done.stdout
    assert again.stderr == ""
    assert not list((work / "quick" / "trainings").glob("*/need.json"))


@pytest.mark.slow
def test_a_smoke_run_of_carving(tmp_path: Path) -> None:
    found = smoke(tmp_path, carve.main)
    assert found["name"] == "vit-carve"
    assert set(found["summary"]["speedup_over_export"]) == {"onnxruntime", "openvino"}
    assert 0 < found["summary"]["max_abs_diff"] < 1e-5


def test_carved_and_exported_is_what_the_exporters_can(tiny_space: Any) -> None:
    space = replace(tiny_space, heads=(0, *tiny_space.heads), mlp_widths=(0, *tiny_space.mlp_widths))
    assert carve.whole_sub_layers(space) == tiny_space


def test_a_pool_of_images_is_measured_at_their_size(work: Path) -> None:
    folder = work / "quick"
    folder.mkdir(exist_ok=True)
    tiny = replace(VIT, pipeline=pipeline_file(folder, quick=True, family=VIT), made_by=())
    with open_store(folder, None, create=True) as store, closing(Laboratory(store, scratch=folder)) as laboratory:
        bench = pool.bench_of(folder, laboratory, Terminal(), tiny)
        full = bench.supernet.shape.full()
        assert (bench.device.sequence_length, bench.device.image_size) == (10, 48)
        assert bench.example(full)["pixel_values"].shape == (1, 3, 48, 48)
        runs = bench.device.runs
        assert bench.accuracy(full, runs[0], "validation") == bench.accuracy(full, runs[1], "validation")


@pytest.mark.slow
def test_a_smoke_run_of_predictors(tmp_path: Path) -> None:
    found = smoke(tmp_path, predictors.main)
    assert found["name"] == "vit-predictors"
    assert set(found["summary"]["at_60"]) >= {"latency_mape", "accuracy_tau"}


def test_all_benchmarks_of_images_share_their_super_network(work: Path) -> None:
    """The same settings and seed have the same key, whoever asks for it."""
    from instatune_deploy.pipeline.supernet import supernet_key
    from instatune_deploy.supernet.load import load_pretrained
    from instatune_deploy.supernet.network import SuperNetwork
    from instatune_deploy.supernet.space import SearchSpace

    folder = work / "quick"
    folder.mkdir(exist_ok=True)
    of_training = Training("super-network", TINY_IMAGES, 0).settings(folder)
    of_job = load_pipeline(pipeline_file(folder, quick=True, family=VIT))
    keys = set()
    for settings in (of_training, of_job):
        inputs = load_inputs(settings)
        shape = SuperNetwork(load_pretrained(inputs.model_folder, inputs.task.label_names, seed=0)).shape
        keys.add(supernet_key(inputs, SearchSpace.of(shape, settings.space, range(shape.layers)), None, 0, bf16=False))
    assert len(keys) == 1
    assert {VIT.work(area) for area in ("finetune", "search", "promise")} == {VIT.work("vit")}
