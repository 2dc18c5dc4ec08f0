"""Preprocessing as a part of the graph: it takes images, 8 bits a value, and does to them what the processor does.

Pillow resizes by fixed sums over columns and over rows, with coefficients of 22 bits behind the point, each rounded to 8 bits.
Between two known sizes that is a matrix for either, and a crop or its black border is a part of it. In fp32 nothing is lost:
every matrix is the sum of two, so that no sum of products needs more than the 24 bits of a float, in whatever order a runtime
adds. In OpenVINO's bf16 and fp16 values are a grey level off, or two, which is what these precisions round pixels to.

Runtimes have operators for it, which give other pixels: ONNX's Resize in fp32 does not round between the passes (of 8-bit values
ONNX Runtime's is a level off here and there), and OpenVINO reads it without antialiasing; RESIZE_*_PILLOW of OpenVINO's
preprocessing is up to two levels off, and where images get smaller it takes several times as long as the matrices
(`benchmarks.vision.embedding`).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import PIL
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from instatune_deploy.tasks.embedded_images import IMAGES
from instatune_deploy.tasks.image_processing import Preprocessing

BITS = 22
"""Behind the point, of Pillow's coefficients."""
LOW_BITS = 7
"""Of those, what the second matrix holds: products of up to 8 + 7 bits, so that a thousand of them are exact. The first
matrix's rest of 15 is exact where the coefficients' absolute values add up to less than 2, and Pillow's do."""
BLOCK = 28
"""Columns or rows that are made by one product: they need a part of the image only."""
MOST_PICTURES = 100
"""Looked at to see what Pillow does: nearly always the first one shows it."""
BLACK, WHITE = 0.0, 255.0
COLUMNS, ROWS = 3, 2
"""Axes of (batch, channels, rows, columns)."""

Matrix = npt.NDArray[np.int64]


def embedded(model: onnx.ModelProto, processing: Preprocessing, source: tuple[int, int]) -> onnx.ModelProto:
    """The graph of ``model``, whose one input are pixel values, with ``processing`` before it; ``model`` stays as it is.

    source: (height, width) in pixels of the images, which come as ``images``, uint8 of (batch, height, width, 3), channels
    red, green, blue. The batch is what it was, open or not
    """
    (pixels,) = model.graph.input
    batch = pixels.type.tensor_type.shape.dim[0]
    steps = _Steps()
    found = steps.add("Cast", steps.add("Transpose", IMAGES, perm=[0, 3, 1, 2]), to=TensorProto.FLOAT)
    for axis, matrix in passes(processing, source):
        found = steps.resized(found, matrix, axis)
    std = np.array(processing.std).reshape(1, -1, 1, 1)
    scaled = steps.add("Mul", found, steps.constant(processing.rescale / std))
    steps.add("Add", scaled, steps.constant(-np.array(processing.mean).reshape(std.shape) / std), output=pixels.name)
    size = batch.dim_param or batch.dim_value
    made = onnx.ModelProto()
    made.CopyFrom(model)
    del made.graph.node[:], made.graph.input[:]
    made.graph.input.append(helper.make_tensor_value_info(IMAGES, TensorProto.UINT8, [size, *source, 3]))
    made.graph.node.extend([*steps.nodes, *model.graph.node])
    made.graph.initializer.extend(steps.constants)
    return made


@lru_cache(maxsize=16)
def passes(processing: Preprocessing, source: tuple[int, int]) -> list[tuple[int, Matrix]]:
    """What ``processing`` does to images of ``source`` (height, width), in its order: the axis, `ROWS` or `COLUMNS`, and a matrix
    (before, after) in units of 2^-22. An axis that stays as it is is not among them."""
    resized = source if processing.resize is None else processing.resized(*source)
    sides = zip(source, resized, strict=True)
    rows, columns = (_coefficients(before, after, processing.resample) for before, after in sides)
    order = [(COLUMNS, columns), (ROWS, rows)]
    if not (_is_identity(columns) or _is_identity(rows)) and _rows_come_first(columns, rows, processing.resample):
        order.reverse()
    kept = {ROWS: processing.size[0], COLUMNS: processing.size[1]}
    found = [(axis, _cropped(matrix, kept[axis])) for axis, matrix in order]
    return [(axis, matrix) for axis, matrix in found if not _is_identity(matrix)]


def _coefficients(before: int, after: int, resample: int) -> Matrix:
    """(before, after): Pillow itself says them, of images with one light point in every row.

    With 32 bits a value it rounds them where it rounds its own.
    """
    points = np.eye(before, dtype=np.int32) << BITS
    return np.asarray(Image.fromarray(points).resize((after, before), Image.Resampling(resample))).astype(np.int64)


def _rows_come_first(columns: Matrix, rows: Matrix, resample: int) -> bool:
    """Whether Pillow resizes rows before columns, which is one grey level here and there, and for newer versions a question of
    the sizes: a picture of noise shows it. RuntimeError where it does neither."""
    fits = {True: True, False: True}
    for seed in range(MOST_PICTURES):
        values = np.random.default_rng(seed).integers(0, 256, (len(rows), len(columns)), dtype=np.uint8)
        sides = columns.shape[1], rows.shape[1]
        image = np.asarray(Image.fromarray(values).resize(sides, Image.Resampling(resample)))
        fits[False] &= np.array_equal(_passed(_passed(values, columns).T, rows).T, image)
        fits[True] &= np.array_equal(_passed(_passed(values.T, rows).T, columns), image)
        if not all(fits.values()):
            break
    if not any(fits.values()):
        raise RuntimeError(f"Pillow {PIL.__version__} resizes in another way than is known here")
    return not fits[False]


def _passed(values: npt.NDArray[Any], matrix: Matrix) -> npt.NDArray[np.float64]:
    """(lines, before) to (lines, after): one pass as Pillow computes it; float64 holds its integers."""
    return np.clip(np.floor(values.astype(np.float64) @ matrix * 2.0**-BITS + 0.5), BLACK, WHITE)


def _cropped(matrix: Matrix, size: int) -> Matrix:
    """The middle ``size`` columns; what lies outside is black. Rounds as `Preprocessing.apply` does."""
    start = (matrix.shape[1] - size) // 2
    made = np.zeros((len(matrix), size), dtype=np.int64)
    first, last = max(start, 0), min(start + size, matrix.shape[1])
    made[:, first - start : last - start] = matrix[:, first:last]
    return made


def _is_identity(matrix: Matrix) -> bool:
    return matrix.shape[0] == matrix.shape[1] and np.array_equal(matrix, np.eye(len(matrix), dtype=np.int64) << BITS)


class _Steps:
    """Nodes in the making, under names of their own."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """A node; its output's name."""
        output = output or f"{IMAGES}.step_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], name=f"{output}.node", **attributes))
        return output

    def constant(self, values: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> str:
        """An initialiser; its name."""
        name = f"{IMAGES}.constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values, dtype=dtype), name))
        return name

    def resized(self, image: str, matrix: Matrix, axis: int) -> str:
        """One pass of Pillow's, whole numbers 0 to 255 to whole numbers 0 to 255.

        image: (batch, 3, rows, columns), of which ``axis`` is changed
        """
        high = (matrix + (1 << LOW_BITS - 1)) >> LOW_BITS
        low = matrix - (high << LOW_BITS)
        unit = 2.0 ** (LOW_BITS - BITS)
        found = self._product(image, high * unit, axis)
        if low.any():  # whole units of it; no fraction of one moves what is rounded
            units = self.add("Floor", self._product(image, low * 2.0**-LOW_BITS, axis))
            found = self.add("Add", found, self.add("Mul", units, self.constant(unit)))
        rounded = self.add("Floor", self.add("Add", found, self.constant(0.5)))
        return self.add("Clip", rounded, self.constant(BLACK), self.constant(WHITE))

    def _product(self, image: str, matrix: npt.NDArray[np.floating[Any]], axis: int) -> str:
        """Block by block: nearly all of a matrix is zero, at a distance from its diagonal."""
        parts = []
        for start in range(0, matrix.shape[1], BLOCK):
            block = matrix[:, start : start + BLOCK]
            used = np.flatnonzero(block.any(axis=1))
            first, last = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 1)
            ends = [self.constant([value], np.int64) for value in (first, last, axis)]
            part = image if last - first == len(matrix) else self.add("Slice", image, *ends)
            block = block[first:last]
            operands = (part, self.constant(block)) if axis == COLUMNS else (self.constant(block.T), part)
            parts.append(self.add("MatMul", *operands))
        return parts[0] if len(parts) == 1 else self.add("Concat", *parts, axis=axis)
