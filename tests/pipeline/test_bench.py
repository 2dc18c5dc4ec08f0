"""The bench on the tiny super-network, its graphs really run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from instatune_deploy.config import ProfileSettings
from instatune_deploy.devices.host import this_host
from instatune_deploy.devices.measure import Laboratory
from instatune_deploy.devices.profile import resolve
from instatune_deploy.devices.runs import Run
from instatune_deploy.devices.runtimes.registry import open_session
from instatune_deploy.devices.store import MeasurementStore
from instatune_deploy.finetune.evaluate import Evaluator
from instatune_deploy.pipeline.bench import Bench
from instatune_deploy.pipeline.evaluate import in_batches
from instatune_deploy.pipeline.inputs import load_inputs, load_pipeline
from instatune_deploy.pipeline.supernet import load_supernet
from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.tasks.tables import SPLITS, Split
from instatune_deploy.tasks.text_inputs import pad
from instatune_deploy.tasks.text_task import TextTask

from .fakes import Place

FP32, OPENVINO, INT8 = Run("onnxruntime", "fp32", 1), Run("openvino", "fp32", 1), Run("onnxruntime", "int8", 1)
TOKENS = 24
SMALL = Architecture((0, 3), (2, 4), (42, 64))


@pytest.fixture(scope="module")
def bench(finished: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("bench")
    shutil.copytree(finished.work / "supernets", folder / "supernets")
    runs = [{"runtime": run.runtime, "precision": run.precision} for run in (FP32, OPENVINO, INT8)]
    profile = ProfileSettings.model_validate({"name": "x", "description": "", "runs": runs, "threads": 1})
    device = replace(resolve(profile, this_host()), sequence_length=TOKENS)
    supernet = load_supernet(next((folder / "supernets").iterdir()))
    with MeasurementStore(folder / "measurements.sqlite") as store, closing(Laboratory(store)) as laboratory:
        yield Bench(load_inputs(load_pipeline(str(finished.pipeline))), supernet, device, laboratory)


def evaluator(bench: Bench, split: Split) -> Evaluator:
    return Evaluator(bench.supernet.network, bench.task.batches(split, TOKENS, 16), bench.task.labels[split])


@pytest.mark.parametrize("run", [FP32, OPENVINO])
@pytest.mark.parametrize("architecture", [SMALL, Architecture((0, 1, 2, 3), (4,) * 4, (64,) * 4)])
def test_accuracy_is_pytorchs(bench: Bench, run: Run, architecture: Architecture) -> None:
    for split in SPLITS[1:]:
        assert bench.accuracy(architecture, run, split) == pytest.approx(evaluator(bench, split).accuracy(architecture))


def test_accuracy_is_computed_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    first = bench.accuracy(SMALL, FP32, "validation")
    monkeypatch.setattr(Bench, "_evaluate", lambda *arguments: 2.0)
    assert bench.accuracy(SMALL, FP32._replace(threads=2), "validation") == first  # threads make no difference


@pytest.mark.parametrize("run", [FP32, OPENVINO])
def test_open_shapes_give_every_row_its_own_logits(bench: Bench, run: Run) -> None:
    """In batches, padded to the longest row of each, as row by row without padding; and PyTorch agrees."""
    from instatune_deploy.graphs.carve import carve

    task = bench.task
    assert isinstance(task, TextTask)
    tokens = task.tokenised("validation", TOKENS)
    graph = carve(bench._template(bench._variant(run), SMALL, True), SMALL).SerializeToString()
    with closing(open_session(graph, *run)) as session:
        found = in_batches(session, task.batches("validation", TOKENS, 6))
        for row, ids in enumerate(tokens["input_ids"]):
            alone = pad({name: [values[row]] for name, values in tokens.items()}, len(ids), task.tokenizer)
            np.testing.assert_allclose(found[row], session.run(alone)["logits"][0], atol=1e-5)
    np.testing.assert_allclose(found, evaluator(bench, "validation").logits(SMALL), atol=1e-4)


def test_int8_is_evaluated_as_it_is_measured(bench: Bench) -> None:
    """The carved graph, at the device's shape, row by row."""
    rows, labels = bench.rows(bench.architectures.largest(), "validation"), bench.inputs.task.labels["validation"]
    with closing(open_session(bench.graph(SMALL, INT8).model().SerializeToString(), *INT8)) as session:
        logits = [session.run({name: values[[row]] for name, values in rows.items()})["logits"][0] for row in range(20)]
    expected = np.mean(np.argmax(logits, axis=1) == labels)
    assert bench.accuracy(SMALL, INT8, "validation") == pytest.approx(expected)


def test_a_finished_fp32_graph_is_the_carved_one(bench: Bench) -> None:
    assert bench.finished_graph(SMALL, FP32) == bench.graph(SMALL, FP32).model()


def test_a_finished_int8_graph_is_calibrated_afresh(bench: Bench) -> None:
    finished, carved = bench.finished_graph(SMALL, INT8), bench.graph(SMALL, INT8).model()
    assert {"QuantizeLinear", "MatMulInteger", "QLinearMatMul", "DequantizeLinear"} & {
        node.op_type for node in finished.graph.node
    }
    assert finished.graph.initializer != carved.graph.initializer
    found = {}
    for name, model, run in (("finished", finished, INT8), ("fp32", bench.finished_graph(SMALL, FP32), FP32)):
        with closing(open_session(model.SerializeToString(), *run)) as session:
            found[name] = session.run(bench.example(bench.architectures.largest()))["logits"]
    difference = np.abs(found["finished"] - found["fp32"]).max()
    assert 0 < difference < 0.2


def test_graph_hash_is_of_architecture_and_variant(bench: Bench) -> None:
    architectures, runs = (SMALL, Architecture((0,), (4,), (64,))), (FP32, OPENVINO, INT8)
    hashes = {bench.graph_hash(architecture, run) for architecture in architectures for run in runs}
    assert len(hashes) == 6
    assert bench.graph_hash(SMALL, FP32._replace(threads=2)) in hashes


def test_what_is_measured_is_in_the_processs_folder(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph that is measured is that of the run, with its weights beside it; the store gives it back."""
    from .fakes import FakeDevice

    fake, seen = FakeDevice(), {}

    def measure(path: Path, *arguments: object) -> object:
        with closing(open_session(path, *FP32)) as session:
            seen[path.parent] = session.run(bench.example(bench.architectures.largest()))["logits"]
        return fake.measure_graph(path, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("instatune_deploy.pipeline.bench.measure_graph", measure)
    made = bench.latency(SMALL, FP32)
    assert bench.latency(SMALL, FP32) == made
    assert len(fake.measured) == 1
    ((folder, logits),) = seen.items()
    assert folder.parent == bench.laboratory.process(FP32).scratch
    with closing(open_session(bench.graph(SMALL, FP32).model().SerializeToString(), *FP32)) as session:
        np.testing.assert_array_equal(session.run(bench.example(bench.architectures.largest()))["logits"], logits)
