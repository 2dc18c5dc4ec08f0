from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from instatune_deploy.artifact.checks import Check, check_files
from instatune_deploy.artifact.manifest import read_manifest
from instatune_deploy.artifact.verify import verify
from instatune_deploy.devices.deployment import Measurement
from instatune_deploy.devices.host import this_host
from instatune_deploy.devices.store import MeasurementStore
from instatune_deploy.digests import file_sha256, folder_sha256
from instatune_deploy.errors import BadInput, NoArchitectureFits, TooNoisy, UserError
from instatune_deploy.files import read_json
from instatune_deploy.finetune.evaluate import Evaluator
from instatune_deploy.pipeline.inputs import load_inputs, load_pipeline
from instatune_deploy.pipeline.job import Job
from instatune_deploy.pipeline.results import Promise
from instatune_deploy.pipeline.supernet import load_supernet
from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.tasks.tables import Split

from .conftest import BUDGET
from .fakes import UPPER, FakeDevice, Place, accuracy_of, latency_of, memory_of, timing, write_profile

FORBIDDEN = [
    "instatune_deploy.finetune.trainer.finetune",
    "instatune_deploy.supernet.importance.order_by_importance",
    "instatune_deploy.graphs.export.export_template",
]


def nothing_new(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training and exporting raise from now on."""

    def forbidden(*_: Any, **__: Any) -> Any:
        raise AssertionError("this was done before")

    for name in FORBIDDEN:
        monkeypatch.setattr(name, forbidden)


def test_the_manifest_says_what_the_contract_promises(finished: Place) -> None:
    value = read_json(finished.artifact / "manifest.json")
    assert set(value) >= {
        "schema_version", "device", "budget", "runtime", "precision", "threads", "batch_size", "input_shapes", "architecture",
        "latency_ms", "accuracy", "baseline", "parity", "host", "versions", "seed", "files",
    }  # fmt: skip
    assert set(value["latency_ms"]) >= {"p50", "p90", "p99", "count"}
    assert set(value["accuracy"]) >= {"validation", "test"}
    assert set(value["baseline"]) >= {"latency_ms", "accuracy", "runtime", "precision"}
    assert set(value["parity"]) >= {"max_abs_diff", "rows"}
    assert value["schema_version"] == 1
    assert (value["device"], value["threads"], value["batch_size"], value["seed"]) == ("tiny-cpu", 1, 1, 0)
    assert value["budget"] == {
        "text": "4ms",
        "statistic": "p90",
        "limit_ms": 4.0,
        **dict.fromkeys(["size_bytes", "memory_bytes", "macs", "accuracy"]),
        "also_ms": {},
    }
    assert value["input_shapes"] == {name: [1, 24] for name in ("input_ids", "token_type_ids", "attention_mask")}
    assert value["host"]["fingerprint"] == this_host().fingerprint
    assert value["parity"]["rows"] == 20  # all test rows: fewer than 32
    assert value["parity"]["max_abs_diff"] <= 1e-4
    names = {path.name for path in finished.artifact.iterdir()} - {"manifest.json"}
    assert set(value["files"]) == names
    graph = {"model.onnx"} if value["runtime"] == "onnxruntime" else {"openvino_model.xml", "openvino_model.bin"}
    assert names >= {*graph, "config.json", "tokenizer.json", "samples.npz"}
    for name, entry in value["files"].items():
        assert entry == {"sha256": file_sha256(finished.artifact / name), "bytes": (finished.artifact / name).stat().st_size}


def test_what_it_promises_is_what_was_measured(finished: Place) -> None:
    manifest = read_manifest(finished.artifact)
    assert finished.fake.remeasured == [manifest.deployment] * 3
    took = latency_of(manifest.architecture, manifest.runtime)
    assert manifest.latency_ms.p90 == pytest.approx(took)
    assert took * UPPER <= 4
    assert (manifest.baseline.runtime, manifest.baseline.precision) == ("onnxruntime", "fp32")
    assert manifest.baseline.latency_ms == pytest.approx(7.16)
    # the most accurate of everything that was measured within the budget
    result = read_json(next((finished.work / "searches").glob("*/search.json")))
    kept = [point["accuracy"] for point in result["points"] if point["latency_ms"] * UPPER <= 4]
    chosen = [point for point in result["points"] if point["architecture"] == manifest.architecture.to_json()]
    assert chosen[0]["accuracy"] == max(kept) == accuracy_of(manifest.architecture)
    assert manifest.baseline.accuracy == pytest.approx(0.9)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_its_accuracy_is_the_finished_graphs_own(finished: Place, split: Split) -> None:
    """Counted by the graph's runtime on every row of the split; PyTorch agrees."""
    manifest = read_manifest(finished.artifact)
    inputs = load_inputs(load_pipeline(str(finished.pipeline)))
    supernet = load_supernet(next((finished.work / "supernets").iterdir()))
    evaluator = Evaluator(supernet.network, inputs.task.batches(split, 24, 16), inputs.task.labels[split])
    assert len(evaluator.labels) == 20
    assert getattr(manifest.accuracy, split) == pytest.approx(evaluator.accuracy(manifest.architecture), abs=1e-9)


def test_the_artifact_is_verified(finished: Place) -> None:
    report = verify(finished.artifact, finished.fake.verify_again)
    assert report.ok
    assert {check.name for check in report.checks} >= {"parity", "budget", "file samples.npz"}


def test_the_samples_are_test_rows_as_pytorch_sees_them(finished: Place, tiny_csv: Path) -> None:
    import torch
    from transformers import AutoTokenizer

    manifest = read_manifest(finished.artifact)
    supernet = load_supernet(next((finished.work / "supernets").iterdir()))
    with np.load(finished.artifact / "samples.npz", allow_pickle=False) as samples:
        arrays = dict(samples)
    expected = arrays.pop("logits")
    supernet.network.activate(manifest.architecture)
    with torch.inference_mode():
        logits = supernet.network(**{name: torch.from_numpy(values) for name, values in arrays.items()}).logits
    np.testing.assert_allclose(logits.numpy(), expected, atol=1e-5)
    text = AutoTokenizer.from_pretrained(finished.artifact).decode(arrays["input_ids"][0], skip_special_tokens=True)
    assert text in tiny_csv.read_text(encoding="utf-8")


def test_no_measurement_and_no_accuracy_twice(finished: Place) -> None:
    assert len(set(finished.fake.measured)) == len(finished.fake.measured)
    assert len(set(finished.fake.evaluated)) == len(finished.fake.evaluated)
    with MeasurementStore(finished.work / "measurements.sqlite") as store:
        kept = [measurement.deployment for measurement in store.select(believed=None)]
    assert kept == finished.fake.measured
    assert len(kept) > 16  # the design, 8 architectures in 2 runs, and what the search proposed


def test_the_same_again_does_nothing(place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    nothing_new(monkeypatch)
    before = folder_sha256(place.artifact), folder_sha256(place.work / "supernets")
    place.job(BUDGET).run()
    assert (folder_sha256(place.artifact), folder_sha256(place.work / "supernets")) == before
    assert place.fake.measured == place.fake.remeasured == place.fake.evaluated == []
    assert "fine-tuned before" in place.said
    assert "profile and search: done before" in place.said
    assert "made before, its files are unchanged, reused" in place.said
    shown = capsys.readouterr().out
    assert "full model" in shown
    assert "artifact" in shown
    assert f"artifact: {place.artifact}" in shown


def test_the_work_may_be_moved(place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nothing_new(monkeypatch)
    moved = Place(tmp_path / "moved", tmp_path / "moved" / "tiny.yaml", place.fake)
    shutil.move(place.folder, moved.folder)
    moved.job(BUDGET).run()
    assert place.fake.measured == []


def test_another_budget_measures_only_what_is_new(place: Place, finished: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing_new(monkeypatch)
    place.job("5ms").run()
    assert not set(place.fake.measured) & set(finished.fake.measured)
    assert not set(place.fake.evaluated) & set(finished.fake.evaluated)
    assert len(set(place.fake.measured)) == len(place.fake.measured) > 0
    assert "profile: 16 deployments, 0 of them not measured before" in place.said
    manifest = read_manifest(place.artifact)
    assert manifest.budget is not None
    assert manifest.budget.limit_ms == 5
    assert manifest.latency_ms.p90 <= 5


def test_another_statistic(place: Place) -> None:
    """``p99:4ms`` is judged by p99, which the fake device has half as much again as p90."""
    place.job("p99:4ms").run()
    manifest = read_manifest(place.artifact)
    assert manifest.budget is not None
    assert manifest.budget.statistic == "p99"
    assert manifest.latency_ms.p99 == pytest.approx(1.5 * latency_of(manifest.architecture, manifest.runtime))
    assert manifest.latency_ms.p99 * UPPER <= 4


def test_another_seed_is_another_supernet(place: Place) -> None:
    place.job(BUDGET, seed=1).finetune()
    assert len(list((place.work / "supernets").iterdir())) == 2


def test_a_killed_search_measures_only_the_rest(place: Place, finished: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was in the store when it stopped is not measured again, and the end is the same."""
    shutil.rmtree(place.work / "searches")
    shutil.rmtree(place.output)
    (place.work / "measurements.sqlite").unlink()
    measure, seen = place.fake.measure_graph, place.fake.measured

    def killed(*arguments: Any) -> Any:
        if len(seen) == 18:
            raise KeyboardInterrupt
        return measure(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr("instatune_deploy.pipeline.bench.measure_graph", killed)
        with pytest.raises(KeyboardInterrupt):
            place.job(BUDGET).run()
    assert not place.artifact.exists()
    place.job(BUDGET).run()
    assert seen == finished.fake.measured
    assert read_manifest(place.artifact).architecture == read_manifest(finished.artifact).architecture


def test_the_same_seed_searches_the_same(place: Place, finished: Place) -> None:
    """Latencies measured anew, predictors fitted anew: the same deployments in the same order."""
    shutil.rmtree(place.work / "searches")
    (place.work / "measurements.sqlite").unlink()
    place.job(BUDGET).search()
    assert place.fake.measured == finished.fake.measured
    one, other = (read_json(next((each.work / "searches").glob("*/search.json"))) for each in (place, finished))
    assert one == other


def test_promises_are_kept_beside_what_was_measured(finished: Place) -> None:
    points = read_json(next((finished.work / "searches").glob("*/search.json")))["points"]
    assert [point["predicted"] is None for point in points[:16]] == [True] * 16  # the design: nothing was known then
    for point in points[16:]:
        promise = Promise.from_json(point["predicted"])
        assert promise.latency_ms == pytest.approx(point["latency_ms"], rel=0.5)
        assert promise.accuracy == pytest.approx(point["accuracy"], abs=0.2)
        assert promise.latency_within_ms[0] < promise.latency_ms < promise.latency_within_ms[1]
    assert points[16:]
    assert f"predicted, then measured: {len(points) - 16} deployments; latency off by " in finished.said


def test_nothing_fits(place: Place) -> None:
    with pytest.raises(NoArchitectureFits) as caught:
        place.job("1ms").run()
    assert caught.value.exit_code == 3
    # the smallest: 2 layers, 2 heads, MLP 21, in OpenVINO: 0.8 * (1 + 1 + 0.4 + 0.42)
    match = re.fullmatch(
        r"nothing keeps 1ms; a budget of (\S+) would do\. The nearest of \d+ measured:\n"
        r"  2\.26 ms \(p90\), \d+\.\d% accurate, \d+\.\d MB, 104 MB of memory, 0\.00 G MACs: "
        r"2 layers, heads 2, MLP 21; openvino fp32, 1 thread\n"
        r"  .*\n  .*",
        caught.value.message,
    )
    assert match is not None, caught.value.message
    budget = match[1]
    assert float(budget.removesuffix("ms")) == pytest.approx(2.256 * UPPER * 1.05, abs=0.01)
    place.job(budget).run()  # it does
    assert read_manifest(place.artifact).latency_ms.p90 <= float(budget.removesuffix("ms"))


def test_a_failed_run_leaves_the_older_artifact(place: Place) -> None:
    before = folder_sha256(place.artifact)
    with pytest.raises(NoArchitectureFits):
        place.job("1ms").run()
    assert folder_sha256(place.artifact) == before


@pytest.mark.parametrize("strategy", ["nsga2", "random"])
def test_strategies_without_predictors(place: Place, strategy: str) -> None:
    """The same super-network, another search; what it hands over keeps the budget all the same."""
    text = place.pipeline.read_text(encoding="utf-8")
    place.pipeline.write_text(text.replace("search:\n", f"search:\n  strategy: {strategy}\n"), encoding="utf-8")
    place.job(BUDGET).run()
    assert "fine-tuned before" in place.said
    assert "search, round 2: " in place.said
    assert read_manifest(place.artifact).latency_ms.p90 <= 4
    assert read_manifest(place.artifact).predicted is None


def test_nothing_is_as_small(place: Place) -> None:
    with pytest.raises(NoArchitectureFits) as caught:
        place.job("size:1kB").run()
    first, *nearest = caught.value.message.splitlines()
    assert re.fullmatch(r"nothing keeps size:0\.001MB\. The nearest of \d+ measured:", first)
    assert len(nearest) == 3


def test_an_accuracy_is_reached_as_fast_as_can_be(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a size that the slower networks exceed."""
    shipped = lambda bench, artifact, deployment, split: {split: accuracy_of(deployment.architecture)}  # noqa: E731
    monkeypatch.setattr("instatune_deploy.pipeline.export._shipped_accuracy", shipped)
    place.job("accuracy:0.75,size:0.25MB").run()
    manifest = read_manifest(place.artifact)
    assert manifest.budget is not None
    assert (manifest.budget.limit_ms, manifest.budget.accuracy, manifest.budget.size_bytes) == (None, 0.75, 0.25e6)
    assert manifest.accuracy.searched >= 0.75
    assert manifest.size_bytes <= 0.25e6
    checks = {check.name: check for check in verify(place.artifact).checks}
    assert checks["budget"].ok
    assert "nothing of it depends on the host" in checks["budget"].detail
    place.job("accuracy:0.75").run()
    assert read_manifest(place.artifact).latency_ms.p90 <= manifest.latency_ms.p90


def test_memory_is_kept_and_looked_at_again(place: Place) -> None:
    """Only ONNX Runtime's processes take less than 80 MB here."""
    place.job("memory:80MB").run()
    manifest = read_manifest(place.artifact)
    assert manifest.runtime == "onnxruntime"
    assert manifest.budget is not None
    assert manifest.budget.memory_bytes == 80e6
    assert manifest.memory_bytes == memory_of(manifest.deployment)

    def report(memory: int | None) -> Check:
        place.fake.told = lambda deployment: {} if memory is None else {"peak_memory_bytes": memory}
        return verify(place.artifact, place.fake.verify_again).checks[-1]

    assert (report(79_000_000).ok, report(81_000_000).ok) == (True, False)
    with pytest.raises(BadInput, match="the budget of memory:80MB cannot be checked here: only Linux tells"):
        report(None)
    promised = manifest.memory_bytes / 1e6
    assert report(81_000_000).detail.startswith(f"peak memory 81 MB exceeds the budget of 80 MB (promised: {promised:.4g} MB)")


def test_what_was_measured_without_its_memory_is_measured_again(place: Place) -> None:
    place.fake.told = lambda deployment: {}
    place.job("5ms").run()
    before = len(place.fake.measured)
    place.fake.told = lambda deployment: {"peak_memory_bytes": memory_of(deployment)}
    place.job("5ms,memory:150MB").run()
    assert place.fake.measured[0] in place.fake.measured[before:]
    assert read_manifest(place.artifact).memory_bytes is not None
    again = len(place.fake.measured)
    place.job("5ms,memory:150MB").search()
    assert len(place.fake.measured) == again


def test_finished_files_that_take_more_memory(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice as much as what was measured, in OpenVINO only: its networks are not tried one by one."""
    measured = FakeDevice.remeasure

    def remeasure(fake: FakeDevice, *arguments: Any) -> Measurement:
        found = measured(fake, *arguments)
        times = 2 if found.deployment.runtime == "openvino" else 1
        return replace(found, circumstances={"peak_memory_bytes": times * memory_of(found.deployment)})

    monkeypatch.setattr("instatune_deploy.artifact.write.Draft.remeasure", lambda *a: remeasure(place.fake, *a))
    place.job("memory:130MB").run()
    assert read_manifest(place.artifact).runtime == "onnxruntime"
    assert place.said.count(" MB of memory, more than 130 MB; the next best is tried") == 1


def test_a_front_of_three_objectives(place: Place) -> None:
    text = place.pipeline.read_text(encoding="utf-8")
    asked = "search:\n  objectives: [accuracy, memory, latency]\n"
    place.pipeline.write_text(text.replace("search:\n", asked), encoding="utf-8")
    place.job(BUDGET).run()
    assert read_manifest(place.artifact).latency_ms.p90 <= 4
    kept = max((place.work / "searches").glob("*/search.json"), key=lambda path: path.stat().st_mtime)
    value = read_json(kept)
    assert value["objectives"] == ["latency", "memory", "accuracy"]
    front = [item for item in value["points"] if item["front"]]
    # ONNX Runtime is slower here and takes less memory: on a front of latency and accuracy it would not be
    assert {item["run"][0] for item in front} == {"onnxruntime", "openvino"}


@pytest.mark.parametrize(("budget", "says"), [("50ms", True), (None, False), (BUDGET, False)])
def test_the_full_model_fits(place: Place, budget: str | None, says: bool) -> None:
    place.job(budget).run()
    line = "the full model already keeps 50ms: 5.73 ms in openvino fp32"  # 0.8 * 7.16
    assert (line in place.said) is says
    assert ("already keeps" in place.said) is says
    assert (read_manifest(place.artifact).budget is None) is (budget is None)


def test_a_device_that_fails_does_not_stop_the_next(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.profiles = ("noisy-cpu", "tiny-cpu", "third-cpu")
    place.fake.noisy = lambda deployment, device: device == "noisy-cpu"
    shutil.rmtree(place.output)
    (place.work / "measurements.sqlite").unlink()
    with pytest.raises(TooNoisy, match=r"^1 of 3 devices have no result; see above$"):
        place.job(BUDGET).run()
    assert sorted(path.name for path in place.output.iterdir()) == ["third-cpu", "tiny-cpu"]
    assert "Error: device noisy-cpu: device 'noisy-cpu': 16 of 16 measurements could not be believed" in place.said
    assert str(place.output / "third-cpu") in capsys.readouterr().out
    # the third has the settings of the second: it finds the same measurements by their keys
    with MeasurementStore(place.work / "measurements.sqlite") as store:
        assert {measurement.device for measurement in store.select()} == {"tiny-cpu"}
        assert len(store.select(believed=False, device="noisy-cpu")) == 16


def test_the_worst_code_counts(place: Place) -> None:
    place.profiles = ("noisy-cpu", "tiny-cpu")
    (place.work / "measurements.sqlite").unlink()
    place.fake.noisy = lambda deployment, device: device == "noisy-cpu"
    with pytest.raises(UserError) as caught:
        place.job("1ms").run()
    assert caught.value.exit_code == 5
    assert "Error: device tiny-cpu: nothing keeps 1ms" in place.said


def test_a_few_unbelieved_measurements_are_left_out(place: Place, finished: Place) -> None:
    (place.work / "measurements.sqlite").unlink()
    lost = {finished.fake.measured[index] for index in (4, 7, 8)}  # three networks, each in one of its two runs
    place.fake.noisy = lambda deployment, device: deployment in lost
    place.job(BUDGET).run()
    assert "3 of 16 latencies could not be believed and are left out" in place.said
    result = read_json(max((place.work / "searches").glob("*/search.json"), key=lambda path: path.stat().st_mtime_ns))
    measured = {(str(point["architecture"]), point["run"][0]) for point in result["points"]}
    assert not measured & {(str(item.architecture.to_json()), item.runtime) for item in lost}
    # neither run has the eight that a predictor of its own would need: what both say together does
    assert len(measured) > 16 - 3
    assert set(result["latency_quality"]) == {"onnxruntime fp32, 1 thread", "openvino fp32, 1 thread"}


@pytest.mark.parametrize("budget", [BUDGET, None])
def test_a_run_that_is_never_believed_is_not_proposed(place: Place, budget: str | None) -> None:
    """There is nothing to predict its latency by; the others are searched all the same."""
    (place.work / "measurements.sqlite").unlink()
    shutil.rmtree(place.work / "searches")
    shutil.rmtree(place.output)
    place.fake.noisy = lambda deployment, device: deployment.runtime == "openvino"
    place.job(budget).search()
    assert "8 of 16 latencies could not be believed and are left out" in place.said
    searched = place.fake.measured[16:]
    assert searched
    assert {deployment.runtime for deployment in searched} == {"onnxruntime"}


def test_measured_again(place: Place, finished: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search is made once more; every deployment is measured once, and accuracies, which cannot change, are not."""
    nothing_new(monkeypatch)
    replace(place.job(BUDGET), again=True).search()
    assert "done before" not in place.said
    assert "profile: 16 deployments, 16 of them not measured before" in place.said
    assert place.fake.measured == finished.fake.measured
    assert place.fake.evaluated == []
    with MeasurementStore(place.work / "measurements.sqlite") as store:
        assert [made.deployment for made in store.select(believed=None)] == finished.fake.measured * 2


def test_what_was_measured_again_counts(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host is twice as slow today: the old rows stay, and whoever looks finds the new ones."""
    measure = place.fake.measure_graph

    def slower(*arguments: Any) -> Any:
        made = measure(*arguments)
        return replace(made, timing=timing(2 * made.timing.p90_ms))

    with monkeypatch.context() as patch:
        patch.setattr("instatune_deploy.pipeline.bench.measure_graph", slower)
        replace(place.job(BUDGET), again=True).profile()
    assert len(place.fake.measured) == 16
    with MeasurementStore(place.work / "measurements.sqlite") as store:
        for deployment in place.fake.measured:
            took = latency_of(deployment.architecture, deployment.runtime)
            both = [made for made in store.select() if made.deployment == deployment]
            assert [made.timing.p90_ms for made in both if made.timing] == [took, 2 * took]
            found = store.find(both[0].key)
            assert found is not None
            assert found.timing is not None
            assert found.timing.p90_ms == 2 * took
    place.job("5ms").profile()
    assert len(place.fake.measured) == 16


def test_too_few_believed_measurements_are_noise(place: Place, finished: Place) -> None:
    """Of 8 networks one is lost: fewer than a predictor needs, and no mistake of the user's."""
    (place.work / "measurements.sqlite").unlink()
    lost = set(finished.fake.measured[4:6])
    place.fake.noisy = lambda deployment, device: deployment in lost
    with pytest.raises(TooNoisy, match="2 of 16 measurements could not be believed"):
        place.job(BUDGET).run()


def test_a_space_of_a_few_networks_is_measured_whole(place: Place, finished: Place) -> None:
    """There is nothing to predict then, and the best of all is handed over."""
    text = place.pipeline.read_text(encoding="utf-8")
    place.pipeline.write_text(text + "space: {depths: [2, 4], heads: [4], mlp_widths: [64]}\n", encoding="utf-8")
    place.job(BUDGET).run()
    # two networks in two runs; where a graph is that of the other super-network, it was measured before
    small = {item for item in finished.fake.measured if item.architecture == Architecture((0, 3), (4, 4), (64, 64))}
    assert len(place.fake.measured) == 2 - len(small) > 0
    # 0.8 * (1 + 1 + 0.8 + 1.28): two layers in OpenVINO; in ONNX Runtime they take 4.08 ms
    manifest = read_manifest(place.artifact)
    assert (manifest.architecture.depth, manifest.runtime) == (2, "openvino")
    assert manifest.latency_ms.p90 == pytest.approx(3.264)


@pytest.mark.parametrize("budget", ["6ms", None])
def test_a_space_smaller_than_the_population_is_searched(place: Place, budget: str | None) -> None:
    """16 networks in two runs, 20 in the population: the search must end by itself."""
    text = place.pipeline.read_text(encoding="utf-8")
    place.pipeline.write_text(text + "space: {depths: [4], heads: [4], mlp_widths: [21, 64]}\n", encoding="utf-8")
    place.job(budget).run()
    assert set(read_manifest(place.artifact).architecture.mlp_widths) <= {21, 64}


def test_a_search_without_the_full_model_is_not_kept(place: Place) -> None:
    """One noisy measurement must not make every later run fail."""
    shutil.rmtree(place.output)
    shutil.rmtree(place.work / "searches")
    (place.work / "measurements.sqlite").unlink()
    text = place.pipeline.read_text(encoding="utf-8")
    place.pipeline.write_text(text.replace("initial: 8", "initial: 12"), encoding="utf-8")
    full = (4,) * 4
    place.fake.noisy = lambda deployment, device: deployment.architecture.heads == full
    with pytest.raises(TooNoisy, match="the full model's latency could not be believed"):
        place.job(BUDGET).run()
    place.fake.noisy = lambda deployment, device: False
    place.job(BUDGET).run()
    assert (place.artifact / "manifest.json").is_file()


def test_a_batch_larger_than_the_validation_rows(place: Place) -> None:
    place.more = "batch_size: 24\n"
    place.job(BUDGET).run()
    assert read_manifest(place.artifact).input_shapes["input_ids"] == [24, 24]


def test_two_profiles_of_one_name(place: Place) -> None:
    path = write_profile(place.folder)
    other = place.folder / "other.yaml"
    other.write_text(path.read_text(encoding="utf-8").replace("threads: 1", "threads: 2"), encoding="utf-8")
    with pytest.raises(BadInput, match="another profile given is called 'tiny-cpu' too"):
        Job.of(str(place.pipeline), (str(path), str(other)), None, place.output, place.work, 0, place.job().terminal)


def test_only_its_stage_runs(place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(place.output)
    nothing_new(monkeypatch)
    place.job(BUDGET).profile()
    place.job(BUDGET).search()
    assert list(place.output.iterdir()) == []
    assert "front" in capsys.readouterr().out


def test_an_unwritable_folder_is_said_before_anything_long(place: Place) -> None:
    shutil.rmtree(place.output)
    place.output.write_text("a file")
    with pytest.raises(BadInput, match=f"cannot write to {place.output}: file exists"):
        place.job(BUDGET)


def test_files_of_the_finished_artifact_are_whole(finished: Place) -> None:
    assert all(check.ok for check in check_files(finished.artifact, read_manifest(finished.artifact)))
