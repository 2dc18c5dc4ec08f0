"""An image processor's steps inside a graph, as the runtimes themselves offer them: ONNX's Resize, and OpenVINO's preprocessing.

All take ``images``, uint8 of (1, height, width, 3), channels red, green, blue, and give ``logits``: the pixel values, fp32 of
(1, 3, height, width).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import openvino
from openvino.preprocess import PrePostProcessor, ResizeAlgorithm

from instatune_deploy.graphs.edit import drop_unused
from instatune_deploy.tasks.image_processing import Preprocessing

BILINEAR, BICUBIC = 2, 3
"""Pillow's numbers."""
MODES = {BILINEAR: "linear", BICUBIC: "cubic"}
ALGORITHMS = {BILINEAR: ResizeAlgorithm.RESIZE_BILINEAR_PILLOW, BICUBIC: ResizeAlgorithm.RESIZE_BICUBIC_PILLOW}
HEADER = '<ir_version: 9, opset_import: ["" : 18]>'


def plain(size: tuple[int, int]) -> onnx.ModelProto:
    """The model behind the preprocessing: one that gives back its pixel values, (1, 3, *size)."""
    shape = f"float[1, 3, {size[0]}, {size[1]}]"
    return onnx.parser.parse_model(f"""{HEADER}
        plain ({shape} pixel_values) => ({shape} logits) {{
            logits = Identity(pixel_values)
        }}""")


def onnx_resize(processing: Preprocessing, source: tuple[int, int], kind: str) -> onnx.ModelProto:
    """ONNX's Resize, set as Pillow does it. source: (height, width) of the images

    kind: of the values that it resizes: fp32, rounded to 8 bits once it is done, or uint8, where a runtime may round as it goes
    """
    (height, width), std = processing.size, np.array(processing.std)
    resize = f"""Resize<
        mode = "{MODES[processing.resample]}", antialias = 1, cubic_coeff_a = -0.5, exclude_outside = 1,
        coordinate_transformation_mode = "half_pixel"
    >"""
    fp32 = f"""
        values = Cast<to = 1>(planes)
        resized = {resize}(values, , , sizes)
        raised = Add(resized, half)
        whole = Floor(raised)
        grey = Clip(whole, black, white)"""
    uint8 = f"""
        resized = {resize}(planes, , , sizes)
        grey = Cast<to = 1>(resized)"""
    made = onnx.parser.parse_model(f"""{HEADER}
        resize (uint8[1, {source[0]}, {source[1]}, 3] images) => (float[1, 3, {height}, {width}] logits)
        <
            int64[4] sizes = {{1, 3, {height}, {width}}}, float half = {{0.5}}, float black = {{0.0}}, float white = {{255.0}},
            float[1, 3, 1, 1] scale = {_values(processing.rescale / std)},
            float[1, 3, 1, 1] shift = {_values(-np.array(processing.mean) / std)}
        >
        {{
            planes = Transpose<perm = [0, 3, 1, 2]>(images)
            {uint8 if kind == "uint8" else fp32}
            scaled = Mul(grey, scale)
            logits = Add(scaled, shift)
        }}""")
    drop_unused(made)
    return made


def openvino_pillow(processing: Preprocessing, source: tuple[int, int], path: Path, kind: str) -> None:
    """OpenVINO's preprocessing with the algorithms that it names after Pillow, written to ``path``, an .xml file.

    kind: of the values that it resizes, uint8, or fp32, which it then neither rounds nor limits to black and white
    """
    made = PrePostProcessor(openvino.Core().read_model(plain(processing.size).SerializeToString()))
    tensor = made.input().tensor()
    tensor.set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC")).set_shape([1, *source, 3])
    made.input().model().set_layout(openvino.Layout("NCHW"))
    steps, algorithm = made.input().preprocess(), ALGORITHMS[processing.resample]
    if kind == "uint8":
        steps.resize(algorithm).convert_element_type(openvino.Type.f32)
    else:
        steps.convert_element_type(openvino.Type.f32).convert_layout([0, 3, 1, 2]).resize(algorithm)
    steps.mean([value / processing.rescale for value in processing.mean])
    steps.scale([value / processing.rescale for value in processing.std])
    openvino.save_model(made.build(), path, compress_to_fp16=False)


def _values(values: Sequence[float] | np.ndarray) -> str:
    """As ONNX's text has them."""
    return f"{{{', '.join(repr(float(value)) for value in values)}}}"
