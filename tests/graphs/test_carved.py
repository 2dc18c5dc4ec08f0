from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from instatune_deploy.graphs.carve import carve, carve_shared
from instatune_deploy.graphs.carved import Carved
from instatune_deploy.graphs.template import Template
from instatune_deploy.supernet.architecture import Architecture

from .conftest import INPUTS, Case

MIXED = Architecture((0, 2, 3), (3, 1, 4), (64, 5, 33))


def model() -> onnx.ModelProto:
    """``z = (x * large)[:255] + small``, with 256 and 255 float32 numbers; and ``half``, which nothing reads."""
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["y"]),
        helper.make_node("Mul", ["y", "large"], ["m"]),
        helper.make_node("Slice", ["m", "begin", "end"], ["s"]),
        helper.make_node("Add", ["s", "small"], ["z"]),
    ]
    constants = [
        numpy_helper.from_array(np.array([256]), "shape"),
        numpy_helper.from_array(np.arange(256, dtype=np.float32), "large"),
        numpy_helper.from_array(np.array([0]), "begin"),
        numpy_helper.from_array(np.array([255]), "end"),
        numpy_helper.from_array(np.arange(255, dtype=np.float32), "small"),
        numpy_helper.from_array(np.ones(2000, np.float16), "half"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [16, 16])
    z = helper.make_tensor_value_info("z", TensorProto.FLOAT, [255])
    body = helper.make_graph(nodes, "g", [x], [z], constants)
    made = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=9, producer_name="somebody")
    onnx.checker.check_model(made, full_check=True)
    return made


def ort(graph: Carved | onnx.ModelProto, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Outputs in ONNX Runtime: how it opens a graph with its weights beside it."""
    options = onnxruntime.SessionOptions()
    if isinstance(graph, onnx.ModelProto):
        return list(onnxruntime.InferenceSession(graph.SerializeToString(), options).run(None, inputs))
    values = {name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in graph.own.items()}
    options.add_external_initializers(list(values), list(values.values()))
    if graph.folder is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(graph.folder))
    return list(onnxruntime.InferenceSession(graph.light, options).run(None, inputs))


def ov(graph: Carved | onnx.ModelProto, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Outputs in OpenVINO: how it opens a graph with its weights beside it."""
    core, weights = openvino.Core(), {} if isinstance(graph, onnx.ModelProto) else graph.weights
    read = core.read_model(graph.SerializeToString() if isinstance(graph, onnx.ModelProto) else graph.weights_as_inputs)
    for parameter in read.get_parameters():
        if (name := parameter.get_friendly_name()) in weights:
            values = np.require(weights[name], requirements=["C", "W"])
            parameter.output(0).replace(openvino.op.Constant(values, shared_memory=True).output(0))
            read.remove_parameter(parameter)
    compiled = core.compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": openvino.Type.f32, "INFERENCE_NUM_THREADS": 1})
    assert {item.get_any_name() for item in compiled.inputs} == set(inputs)
    return [np.array(value) for value in compiled(inputs).values()]


def test_taken_apart_and_put_together() -> None:
    whole = model()
    apart = Carved.of(whole)
    assert {name: values.dtype for name, values in apart.own.items()} == {"large": np.float32, "half": np.float16}
    np.testing.assert_array_equal(apart.own["large"], np.arange(256))
    assert (dict(apart.shared), apart.folder) == ({}, None)
    assert len(apart.light) < 2500 < len(whole.SerializeToString()) < 7000
    external = {item.name: item for item in apart.graph.graph.initializer if item.data_location == TensorProto.EXTERNAL}
    assert {name: (list(item.dims), item.data_type) for name, item in external.items()} == {
        "large": ([256], TensorProto.FLOAT),
        "half": ([2000], TensorProto.FLOAT16),
    }
    assert apart.model() == whole


def test_weights_as_inputs() -> None:
    read = onnx.ModelProto.FromString(Carved.of(model()).weights_as_inputs)
    assert [item.name for item in read.graph.input] == ["x", "large", "half"]
    assert [item.name for item in read.graph.initializer] == ["shape", "begin", "end", "small"]
    onnx.checker.check_model(read, full_check=True)


def test_file_is_onnx_with_external_data(tmp_path: Path) -> None:
    Carved.of(model()).save(tmp_path / "g.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["g.onnx", "g.weights"]
    # two arrays, of 1,024 and 4,000 bytes, each at the beginning of a page of 4,096
    assert (tmp_path / "g.weights").stat().st_size == 4096 + 4000
    onnx.checker.check_model(tmp_path / "g.onnx")
    read = onnx.load(tmp_path / "g.onnx")
    assert {item.name: numpy_helper.to_array(item).tolist() for item in read.graph.initializer} == {
        item.name: numpy_helper.to_array(item).tolist() for item in model().graph.initializer
    }


def test_file_is_mapped(tmp_path: Path) -> None:
    Carved.of(model()).save(tmp_path / "g.onnx")
    loaded = Carved.load(tmp_path / "g.onnx")
    assert (dict(loaded.own), list(loaded.shared), loaded.folder) == ({}, ["large", "half"], tmp_path)
    assert all(isinstance(values, np.memmap) for values in loaded.shared.values())
    assert loaded.model() == model()
    loaded.save(tmp_path / "again.onnx")
    assert (tmp_path / "again.weights").read_bytes() == (tmp_path / "g.weights").read_bytes()


def test_a_file_with_everything_in_it(tmp_path: Path) -> None:
    onnx.save(model(), tmp_path / "g.onnx")
    loaded = Carved.load(tmp_path / "g.onnx")
    assert (list(loaded.own), dict(loaded.shared), loaded.folder) == (["large", "half"], {}, None)
    assert loaded.model() == model()


def test_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime is told where the file is, whatever folder the process is in then."""
    Carved.of(model()).save(tmp_path / "g.onnx")
    monkeypatch.chdir(tmp_path)
    loaded = Carved.load(Path("g.onnx"))
    monkeypatch.chdir("/")
    inputs = {"x": np.full((16, 16), 2, np.float32)}
    np.testing.assert_array_equal(ort(loaded, inputs)[0], 3 * np.arange(255))
    np.testing.assert_array_equal(ov(loaded, inputs)[0], 3 * np.arange(255))


@pytest.fixture(scope="module")
def on_disk(cases: dict[str, Case], tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Template]:
    """The templates of all cases, saved and opened again."""
    folder, loaded = tmp_path_factory.mktemp("templates"), {}
    for model_type, case in cases.items():
        for variant in ("plain", "fused"):
            getattr(case, variant).save(folder, f"{model_type}-{variant}")
            loaded[model_type, variant] = Template.load(folder, f"{model_type}-{variant}")
    return loaded


@pytest.mark.parametrize("variant", ["plain", "fused"])
@pytest.mark.parametrize("model_type", list(INPUTS))
@settings(max_examples=5, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), seed=st.integers(0, 99))
def test_onnxruntime_computes_the_very_same(
    cases: dict[str, Case], on_disk: Any, any_architecture: Any, model_type: str, variant: str, data: st.DataObject, seed: int
) -> None:
    case, architecture = cases[model_type], data.draw(any_architecture)
    inputs, template = case.inputs(seed), getattr(case, variant)
    whole = ort(carve(template, architecture), inputs)
    for source in (template, on_disk[model_type, variant]):
        np.testing.assert_array_equal(ort(carve_shared(source, architecture), inputs), whole)
    np.testing.assert_allclose(whole[0], case.logits(architecture, inputs), rtol=0, atol=1e-4)


@pytest.mark.parametrize("model_type", list(INPUTS))
@settings(max_examples=3, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), seed=st.integers(0, 99))
def test_openvino_computes_the_very_same(
    cases: dict[str, Case], on_disk: Any, any_architecture: Any, model_type: str, data: st.DataObject, seed: int
) -> None:
    case, architecture = cases[model_type], data.draw(any_architecture)
    inputs = case.inputs(seed)
    whole = ov(carve(case.plain, architecture), inputs)
    for source in (case.plain, on_disk[model_type, "plain"]):
        np.testing.assert_array_equal(ov(carve_shared(source, architecture), inputs), whole)
    np.testing.assert_allclose(whole[0], case.logits(architecture, inputs), rtol=0, atol=1e-4)


def test_what_is_not_cut_is_shared(bert: Case, on_disk: dict[tuple[str, str], Template]) -> None:
    name = "bert.embeddings.word_embeddings.weight"
    one, other = carve_shared(bert.plain, MIXED), carve_shared(bert.plain, Architecture((1,), (2,), (7,)))
    assert one.own[name] is other.own[name]
    assert not one.shared
    template = on_disk["bert", "plain"]
    one, other = carve_shared(template, MIXED), carve_shared(template, Architecture((1,), (2,), (7,)))
    assert one.shared[name] is other.shared[name] is template.split.shared[name]
    assert one.folder == template.split.folder
    # cut by rows: the first rows are where they were; cut by columns: a copy
    rows, columns = (f"bert.encoder.layer.2.{path}.dense.weight" for path in ("output", "intermediate"))
    assert np.shares_memory(one.own[rows], template.split.shared[rows])
    assert not np.shares_memory(one.own[columns], template.split.shared[columns])
    assert (one.own[rows].shape, one.own[columns].shape) == ((5, 32), (32, 5))
    assert all(values.flags.c_contiguous for values in one.weights.values())
    # what is not cut in a layer that stays whole is shared too; nothing of layer 1 is there
    assert "bert.encoder.layer.0.output.dense.weight" in one.shared
    assert not [item for item in one.weights if "layer.1." in item]


def put_and_run(path: Path, runtime: Callable[..., Any], inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Outputs of a file, by nothing but its path."""
    if runtime is ort:
        return list(onnxruntime.InferenceSession(path).run(None, inputs))
    settings = {"INFERENCE_PRECISION_HINT": openvino.Type.f32, "INFERENCE_NUM_THREADS": 1}
    return [np.array(value) for value in openvino.Core().compile_model(path, "CPU", settings)(inputs).values()]


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("runtime", [ort, ov])
def test_put_for_a_runtime_to_load(
    bert: Case, on_disk: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: Callable[..., Any], links: bool
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("another file system")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    template, inputs = on_disk["bert", "plain"], bert.inputs(3)
    external = [entry for item in template.split.graph.graph.initializer for entry in item.external_data]
    (shared,) = {entry.value for entry in external if entry.key == "location"}
    # the same file twice, as the bench does, and one more beside it
    for name, architecture in (("g", MIXED), ("g", Architecture((1,), (2,), (7,))), ("h", MIXED)):
        carve_shared(template, architecture).put(tmp_path / f"{name}.onnx")
        whole = runtime(carve(template, architecture), inputs)
        for found, expected in zip(put_and_run(tmp_path / f"{name}.onnx", runtime, inputs), whole, strict=True):
            np.testing.assert_array_equal(found, expected)
        assert os.path.samefile(tmp_path / shared, template.split.folder / shared) is links
    assert (tmp_path / shared).read_bytes() == (template.split.folder / shared).read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"g.onnx", "g.weights", "h.onnx", "h.weights", shared}


def test_put_without_a_template_on_disk(bert: Case, tmp_path: Path) -> None:
    carve_shared(bert.plain, MIXED).put(tmp_path / "g.onnx")
    np.testing.assert_array_equal(
        put_and_run(tmp_path / "g.onnx", ort, bert.inputs(3))[0], ort(carve(bert.plain, MIXED), bert.inputs(3))[0]
    )
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("architecture", [MIXED, Architecture((1,), (2,), (7,))])
def test_size_is_nearly_that_of_the_file(bert: Case, on_disk: Any, architecture: Architecture) -> None:
    for template in (bert.plain, on_disk["bert", "plain"]):
        carved = carve_shared(template, architecture)
        real = len(carved.model().SerializeToString())
        assert abs(carved.size_bytes - real) <= 100 * len(carved.weights)  # the name of a file and a place for each
        assert carved.size_bytes == pytest.approx(real, rel=0.1)
