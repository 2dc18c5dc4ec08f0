"""Preprocessing in the graph beside `Preprocessing.apply`, which the tests of tasks compare with transformers."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from PIL import Image

from instatune_deploy.devices.runtimes.base import Refused
from instatune_deploy.devices.runtimes.registry import open_session
from instatune_deploy.graphs.embed import COLUMNS, ROWS, embedded, passes
from instatune_deploy.graphs.half import half_precision
from instatune_deploy.tasks.embedded_images import IMAGES
from instatune_deploy.tasks.image_processing import Preprocessing

MEAN, STD = (0.5, 0.25, 0.75), (0.5, 0.25, 1.0)
LANCZOS, BILINEAR, BICUBIC = 1, 2, 3
SIDES = st.integers(1, 40)
SIZES = st.tuples(SIDES, SIDES)


def plain(size: tuple[int, int], batch: int | str = 1) -> onnx.ModelProto:
    """A graph that gives back its pixel values."""
    shape = [batch, 3, *size]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["pixel_values"], ["logits"])],
        "plain",
        [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def run(model: onnx.ModelProto, images: np.ndarray, runtime: str = "onnxruntime", precision: str = "fp32") -> np.ndarray:
    session = open_session(model.SerializeToString(), runtime, precision, 1, "cpu")
    try:
        return np.asarray(session.run({IMAGES: images})["logits"])
    finally:
        session.close()


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    """Of the values a quarter is black, another white: where filters overshoot."""
    return np.clip(np.random.default_rng(seed).integers(-255, 511, shape), 0, 255).astype(np.uint8)


def expected(processing: Preprocessing, images: np.ndarray) -> np.ndarray:
    return processing.batch([Image.fromarray(image) for image in images])


def grey(values: np.ndarray, processing: Preprocessing) -> np.ndarray:
    """What was normalised, back in 0 to 255."""
    mean, std = (np.array(item).reshape(1, 3, 1, 1) for item in (processing.mean, processing.std))
    return (values.astype(np.float64) * std + mean) / processing.rescale


@st.composite
def processings(draw: st.DrawFn) -> Preprocessing:
    crop = draw(st.none() | SIZES)
    resizes: st.SearchStrategy[int | tuple[int, int] | None] = SIZES if crop is None else st.none() | SIDES | SIZES
    return Preprocessing(draw(resizes), draw(st.integers(0, 5)), crop, draw(st.sampled_from([1 / 255, 1 / 127.5])), MEAN, STD)


@settings(max_examples=150, deadline=None)
@given(processing=processings(), source=SIZES, batch=st.integers(1, 3), seed=st.integers(0, 2**32 - 1))
def test_every_value_is_what_pillow_says(processing: Preprocessing, source: tuple[int, int], batch: int, seed: int) -> None:
    images = noise(batch, *source, 3, seed=seed)
    model = embedded(plain(processing.size, batch), processing, source)
    onnx.checker.check_model(model)
    found = run(model, images)
    # a grey level is 0.0039 at least
    np.testing.assert_allclose(found, expected(processing, images), rtol=0, atol=1e-5)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("resample", range(6))
@pytest.mark.parametrize(("source", "target"), [((28, 28), (56, 56)), ((120, 161), (56, 56)), ((97, 640), (48, 35))])
def test_sizes_of_use(runtime: str, resample: int, source: tuple[int, int], target: tuple[int, int]) -> None:
    """All that lies in several blocks, and more of the image in one sum than a kernel adds at once."""
    processing = Preprocessing(target, resample, None, 1 / 255, MEAN, STD)
    images = noise(2, *source, 3)
    found = run(embedded(plain(target, 2), processing, source), images, runtime)
    np.testing.assert_allclose(found, expected(processing, images), rtol=0, atol=1e-5)


def test_by_hand() -> None:
    """Two points to four: 3/4 and 1/4 of each. Halves go up: 0.5 is 1, and 1.5 is 2."""
    processing = Preprocessing((1, 4), BILINEAR, None, 1.0, (0.0,) * 3, (1.0,) * 3)
    ((axis, columns),) = passes(processing, (1, 2))
    assert axis == COLUMNS
    np.testing.assert_array_equal(columns / 2**22, [[1, 0.75, 0.25, 0], [0, 0.25, 0.75, 1]])
    image = np.array([[[[0, 0, 10], [100, 2, 10]]]], dtype=np.uint8)
    found = run(embedded(plain((1, 4)), processing, (1, 2)), image)
    np.testing.assert_array_equal(found[0, :, 0], [[0, 25, 75, 100], [0, 1, 2, 2], [10, 10, 10, 10]])


def test_the_order_of_the_passes_is_pillows() -> None:
    """Which newer versions choose by the sizes; of these two the rows come first there, and the columns in the other."""
    for size, source in (((7, 30), (31, 9)), ((30, 7), (9, 31))):
        processing = Preprocessing(size, BILINEAR, None, 1.0, (0.0,) * 3, (1.0,) * 3)
        assert {axis for axis, _ in passes(processing, source)} == {ROWS, COLUMNS}
        images = noise(40, *source, 3)
        found = run(embedded(plain(size, 40), processing, source), images)
        np.testing.assert_array_equal(found, expected(processing, images))


def test_a_crop_beyond_the_edge_is_black() -> None:
    processing = Preprocessing(None, BILINEAR, (3, 5), 1.0, (0.0,) * 3, (1.0,) * 3)
    image = np.full((1, 1, 2, 3), 7, np.uint8)
    found = run(embedded(plain((3, 5)), processing, (1, 2)), image)
    expected_plane = np.zeros((3, 5))
    expected_plane[1, 2:4] = 7  # (2 - 5) // 2 is -2
    np.testing.assert_array_equal(found[0], np.stack([expected_plane] * 3))


def test_nothing_is_multiplied_where_the_size_stays() -> None:
    processing = Preprocessing((6, 9), BICUBIC, None, 1 / 255, MEAN, STD)
    assert passes(processing, (6, 9)) == []
    operators = [node.op_type for node in embedded(plain((6, 9)), processing, (6, 9)).graph.node]
    assert operators == ["Transpose", "Cast", "Mul", "Add", "Identity"]


def test_what_it_takes_in() -> None:
    """The model it was made of stays as it was."""
    model = plain((8, 8), "batch")
    before = model.SerializeToString()
    processing = Preprocessing((8, 8), BICUBIC, None, 1 / 255, MEAN, STD)
    made = embedded(model, processing, (20, 31))
    assert model.SerializeToString() == before
    (images,) = made.graph.input
    kind = images.type.tensor_type
    assert (images.name, kind.elem_type) == ("images", TensorProto.UINT8)
    assert [item.dim_param or item.dim_value for item in kind.shape.dim] == ["batch", 20, 31, 3]
    for rows in (1, 3):
        values = noise(rows, 20, 31, 3)
        np.testing.assert_allclose(run(made, values), expected(processing, values), rtol=0, atol=1e-5)


@pytest.mark.parametrize("resample", [BILINEAR, BICUBIC, LANCZOS])
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_in_half_precision(resample: int, precision: str) -> None:
    """OpenVINO computes everything in what it is told, whose own steps are a grey level."""
    processing = Preprocessing((56, 56), resample, None, 1 / 255, MEAN, STD)
    images = noise(1, 120, 161, 3)
    try:
        found = run(embedded(plain((56, 56)), processing, (120, 161)), images, "openvino", precision)
    except Refused as error:
        pytest.skip(str(error))
    off = np.abs(grey(found, processing) - grey(expected(processing, images), processing))
    assert off.max() < 3.5
    assert off.mean() < 0.5


def test_before_a_graph_in_half_precision() -> None:
    """ONNX Runtime rounds to fp16 what is exact: by an eighth of a grey level at most."""
    processing = Preprocessing((56, 56), BICUBIC, None, 1 / 255, MEAN, STD)
    images = noise(1, 120, 161, 3)
    found = run(embedded(half_precision(plain((56, 56))), processing, (120, 161)), images)
    np.testing.assert_array_equal(found, expected(processing, images).astype(np.float16).astype(np.float32))
