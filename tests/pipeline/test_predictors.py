from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from instatune_deploy.budget import Budget
from instatune_deploy.devices.deployment import Deployment, Measurement
from instatune_deploy.devices.runs import Run
from instatune_deploy.devices.space import DeploymentSpace
from instatune_deploy.errors import BadInput
from instatune_deploy.files import read_json
from instatune_deploy.pipeline.bench import Point
from instatune_deploy.pipeline.predictors import NEVER_MS, Learner
from instatune_deploy.predict.predictor import MIN_MEASUREMENTS, Predictor
from instatune_deploy.predict.shared import MIN_OF_KIND, Shared
from instatune_deploy.supernet.shape import ModelShape
from instatune_deploy.supernet.space import SearchSpace

from .fakes import accuracy_of, latency_of, timing

SPACE = SearchSpace(4, (1, 2, 3, 4), (1, 2, 4), (16, 32, 48, 64))
SHAPE = ModelShape(layers=4, heads=4, mlp_width=64, hidden_size=32, head_size=8, fixed_parameters=0, layer_parameters=0)
ORT, OPENVINO, INT8 = Run("onnxruntime", "fp32", 1), Run("openvino", "fp32", 1), Run("openvino", "int8", 2)
LEARNER = Learner(SPACE, SHAPE, 24, (ORT, OPENVINO, INT8), "p90", 0)


def measured(genotype: np.ndarray, run: Run) -> Point:
    """int8 is as fast as fp32, and three points less accurate."""
    architecture = SPACE.decode(genotype)
    deployment = Deployment(architecture, run.runtime, run.precision, run.threads, batch_size=1, sequence_length=24)
    took = timing(latency_of(architecture, run.runtime))
    measurement = Measurement(deployment, "tiny-cpu", f"{architecture} {run}", 1, "host", {}, {}, took, {})
    return Point(architecture, run, measurement, accuracy_of(architecture) - 0.03 * (run.precision == "int8"), 1)


def points(count: int, runs: tuple[Run, ...], seed: int = 0) -> list[Point]:
    genotypes = np.unique(SPACE.sample(np.random.default_rng(seed), 4 * count), axis=0)
    chosen = np.random.default_rng(seed).permutation(genotypes)[:count]
    return [measured(genotype, run) for genotype in chosen for run in runs]


def test_latency_by_run_and_accuracy_by_kind() -> None:
    model = LEARNER.fit(points(60, LEARNER.runs)).predicted()
    unseen = points(40, LEARNER.runs, seed=1)
    space = DeploymentSpace(SPACE, LEARNER.runs)
    genotypes = np.array([space.encode(point.architecture, point.run) for point in unseen])
    said, spread = model.mean(genotypes), model.spread(genotypes)
    latencies = np.array([latency_of(point.architecture, point.run.runtime) for point in unseen])
    assert np.median(np.abs(said[:, 0] / latencies - 1)) < 0.02
    assert np.median(np.abs(1 - said[:, 1] - [point.accuracy for point in unseen])) < 0.01
    assert spread.shape == said.shape
    assert (spread[:, 0] > 0).all()
    assert (spread[:, 0] < 0.1 * said[:, 0]).all()
    assert len(np.unique(spread[:, 1])) == 1  # in points, wherever


def test_a_run_with_too_few_measurements_is_not_proposed() -> None:
    known = points(20, (ORT,)) + points(MIN_OF_KIND - 1, (OPENVINO,))
    model = LEARNER.fit(known).predicted()
    genotypes = np.array([[3, *[0] * 8, run] for run in range(3)])
    assert (model.mean(genotypes)[:, 0] == NEVER_MS).tolist() == [False, True, True]
    others = LEARNER.fit(known).predicted(("size", "macs", "accuracy")).mean(genotypes)
    assert (others[:, :2] == NEVER_MS).tolist() == [[False, False], [True, True], [True, True]]
    assert (others[:, 2] < 1).all()


def test_enough_are_different_networks() -> None:
    few = points(MIN_MEASUREMENTS - 1, LEARNER.runs)
    assert not LEARNER.enough(few)
    assert LEARNER.enough([*few, *points(MIN_MEASUREMENTS, (ORT,), seed=1)])


def test_the_same_latency_everywhere_is_no_measurement() -> None:
    alike = [
        replace(point, measurement=replace(point.measurement, timing=timing(5.0))) for point in points(MIN_MEASUREMENTS, (ORT,))
    ]
    with pytest.raises(BadInput, match="all 8 latencies measured in onnxruntime fp32, 1 thread are 5 ms: these are no"):
        LEARNER.fit(alike)


def sized(point: Point) -> Point:
    """As of a graph: something once, for every layer, and for every parameter its bytes; int8 takes a quarter of those."""
    bytes_each = 1 if point.run.precision == "int8" else 4
    size = 5000 + 700 * point.architecture.depth + bytes_each * SHAPE.parameters_of(point.architecture)
    return replace(point, measurement=replace(point.measurement, size_bytes=size))


def test_sizes_and_macs_are_known_before_they_are_measured() -> None:
    known = [sized(point) for point in points(20, (ORT, INT8))]
    unseen = [sized(point) for point in points(20, LEARNER.runs, seed=1)]
    space = DeploymentSpace(SPACE, LEARNER.runs)
    genotypes = np.array([space.encode(point.architecture, point.run) for point in unseen])
    said = LEARNER.lines(known, "size").predict(genotypes)
    for point, found in zip(unseen, said, strict=True):
        # of OpenVINO's fp32 nothing is known yet
        assert found == pytest.approx(0 if point.run == OPENVINO else point.measurement.size_bytes, rel=1e-6)
    exceeded = LEARNER.exceeded(known, Budget(size_bytes=20000, macs=2e6))
    nothing_known = LEARNER.exceeded([], Budget(20.0, size_bytes=1))
    assert exceeded is not None
    assert nothing_known is not None
    macs = [SHAPE.macs_of(point.architecture, 24) for point in unseen]
    np.testing.assert_allclose(exceeded(genotypes), np.column_stack([said / 20000 - 1, np.array(macs) / 2e6 - 1]))
    assert nothing_known(genotypes).tolist() == [[-1]] * len(genotypes)
    assert LEARNER.exceeded(known, Budget(20.0, accuracy=0.8)) is None


def test_memory_is_learned_by_run_and_energy_like_latency() -> None:
    def told(point: Point) -> Point:
        """Every thread takes a stack; energy is 3 mJ for every millisecond."""
        memory = 60e6 + 10e6 * point.run.threads + 4 * SHAPE.parameters_of(point.architecture)
        took = 3 * latency_of(point.architecture, point.run.runtime)
        return replace(
            point, measurement=replace(point.measurement, circumstances={"peak_memory_bytes": memory, "energy_mj": took})
        )

    known, unseen = ([told(point) for point in points(60, LEARNER.runs, seed)] for seed in (0, 1))
    names = ("macs", "memory", "energy", "accuracy")
    predicted = LEARNER.fit(known, names).predicted(names)
    space = DeploymentSpace(SPACE, LEARNER.runs)
    genotypes = np.array([space.encode(point.architecture, point.run) for point in unseen])
    said, spread = predicted.mean(genotypes), predicted.spread(genotypes)
    assert said[:, 0].tolist() == [SHAPE.macs_of(point.architecture, 24) for point in unseen]
    np.testing.assert_allclose(said[:, 1], [point.measurement.memory_bytes for point in unseen], rtol=1e-6)
    energies = np.array([point.measurement.energy_mj for point in unseen])
    assert np.median(np.abs(said[:, 2] / energies - 1)) < 0.02
    assert (spread[:, 0] == 0).all()
    assert (spread[:, 1] < 1e3).all()
    assert (spread[:, 2] > 0).all()


def test_a_limit_on_what_is_no_objective_is_expected_by_the_predictors() -> None:
    known = points(60, LEARNER.runs)
    space = DeploymentSpace(SPACE, LEARNER.runs)
    genotypes = np.array([space.encode(point.architecture, point.run) for point in points(20, LEARNER.runs, seed=1)])
    exceeded = LEARNER.exceeded(known, Budget(5.0, accuracy=0.75), ("size", "accuracy"))
    assert exceeded is not None
    latency = LEARNER.fit(known).mean(genotypes)[:, 0]
    np.testing.assert_allclose(exceeded(genotypes), (latency / 5.0 - 1)[:, None])
    nothing_known = LEARNER.exceeded([], Budget(5.0), ("size", "accuracy"))
    assert nothing_known is not None
    assert nothing_known(genotypes).max() == -1


def test_other_percentiles_are_expected_by_experience() -> None:
    """p99 is half as much again as p90."""
    known = points(60, LEARNER.runs)
    space = DeploymentSpace(SPACE, LEARNER.runs)
    genotypes = np.array([space.encode(point.architecture, point.run) for point in points(20, LEARNER.runs, seed=1)])
    exceeded = LEARNER.exceeded(known, Budget(5.0, "p90", also_ms=(("p99", 6.0),)))
    assert exceeded is not None
    latency = LEARNER.fit(known).mean(genotypes)[:, 0]
    np.testing.assert_allclose(exceeded(genotypes), (1.5 * latency / 6.0 - 1)[:, None])


def test_what_is_promised_has_intervals() -> None:
    known = points(60, (ORT, OPENVINO))
    predictors = LEARNER.fit(known)
    space = DeploymentSpace(SPACE, LEARNER.runs)
    architecture = SPACE.largest()
    genotypes = np.array([space.encode(architecture, run) for run in LEARNER.runs])
    first, second, unknown = predictors.promises(genotypes)
    assert unknown is None
    assert first is not None
    assert second is not None
    mean = predictors.mean(genotypes)
    assert (first.latency_ms, second.latency_ms) == tuple(mean[:2, 0])
    assert first.accuracy == 1 - mean[0, 1]
    of_ort = predictors.latency.interval(LEARNER.features(genotypes[:1, :-1]), np.array([0]))
    assert first.latency_within_ms == tuple(float(end[0]) for end in of_ort)
    assert first.latency_within_ms[0] < first.latency_ms < first.latency_within_ms[1]
    assert first.accuracy_within[0] < first.accuracy < first.accuracy_within[1]


def test_what_is_saved_says_what_it_was_made_from_and_for(tmp_path: Path) -> None:
    known = points(20, (ORT, OPENVINO))
    predictors = LEARNER.fit(known)
    predictors.save(tmp_path, known, device="tiny-cpu", host="f1", supernet="s1")
    assert sorted(path.stem for path in tmp_path.glob("*.cbm")) == ["accuracy", "latency"]
    saved = read_json(tmp_path / "latency.json")
    assert saved["measurements"] == [point.measurement.key for point in known]
    runs = [list(run) for run in LEARNER.runs]
    made_for = {"device": "tiny-cpu", "host": "f1", "supernet": "s1", "shape": SHAPE.to_json(), "runs": runs}
    made_for |= {"space": SPACE.to_json(), "tokens": 24}
    again = Shared.load(tmp_path, "latency", {**made_for, "statistic": "p90"})
    x, kinds = LEARNER.features(SPACE.sample(np.random.default_rng(2), 9)), np.array([0, 1, 0, 1, 0, 1, 0, 1, 0])
    np.testing.assert_allclose(again.predict(x, kinds), predictors.latency.predict(x, kinds))
    assert again.known == [0, 1]
    names = {"onnxruntime", "openvino", "fp32", "int8", "cpu", "1 thread", "2 threads"}
    assert names <= set(saved["features"])
    for name, other in (("host", "f2"), ("supernet", "s2"), ("tokens", 128)):
        with pytest.raises(BadInput, match=rf"accuracy\.json: made for another {name} \({made_for[name]}, not {other}\)"):
            Predictor.load(tmp_path, "accuracy", {**made_for, name: other})
