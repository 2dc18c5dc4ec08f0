"""Quantise a template once; every graph carved from it is quantised already.

The scales of a weight stand one to an output channel, so they are cut with its columns. A graph that was carved in fp32 can
also be quantised afresh, with calibration of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx import helper

from instatune_deploy.errors import BadInput
from instatune_deploy.graphs.calibration import Rows
from instatune_deploy.graphs.integer_onnxruntime import dynamic_int8, static_int8
from instatune_deploy.graphs.integer_openvino import nncf_int8
from instatune_deploy.graphs.naming import SCALE, ZERO_POINT
from instatune_deploy.graphs.template import Cut, Template

QUANTISERS: dict[tuple[str, str], Callable[[onnx.ModelProto, Rows, bool, bool], onnx.ModelProto]] = {
    ("onnxruntime", "int8"): static_int8,
    ("onnxruntime", "int8-dynamic"): dynamic_int8,
    ("openvino", "int8"): nncf_int8,
}


def is_quantised(precision: str) -> bool:
    """Whether graphs of this precision are made here; the others are fp32 graphs that a runtime runs in a precision."""
    return any(precision == known for _, known in QUANTISERS)


def quantise_template(template: Template, runtime: str, precision: str, rows: Rows, narrow_weights: bool = False) -> Template:
    """The full network quantised for ``runtime``, to be carved like the template that it is made from.

    template:       fp32, the runtime's own variant (`variants.make_variant`); it stays as it is
    rows:           inputs to calibrate on, each at the template's shapes; a hundred real ones are enough
    narrow_weights: 7 bits instead of 8, for x86 CPUs without VNNI: there the sum of two products of 8 bits overflows

    Activation ranges are those of the full network: LayerNorm keeps the ranges of all sub-networks alike.
    ``BadInput`` when the runtime has no such precision or the rows are not the graph's.
    """
    model = _quantise(template.model, runtime, precision, rows, narrow_weights, to_carve=True)
    sizes = {item.name: tuple(item.dims) for item in model.graph.initializer}
    cuts = tuple(tuple(new for cut in layer for new in _follow(cut, sizes)) for layer in template.cuts)
    return replace(template, graph=model, cuts=cuts)


def quantise_model(
    model: onnx.ModelProto, runtime: str, precision: str, rows: Rows, narrow_weights: bool = False
) -> onnx.ModelProto:
    """An fp32 graph, carved or whole, quantised for ``runtime`` with its own calibration; arguments and errors as above.

    What would not survive carving is done here too: with NNCF, SmoothQuant and bias correction.
    """
    return _quantise(model, runtime, precision, rows, narrow_weights, to_carve=False)


def _quantise(
    model: onnx.ModelProto, runtime: str, precision: str, rows: Rows, narrow_weights: bool, to_carve: bool
) -> onnx.ModelProto:
    if (runtime, precision) not in QUANTISERS:
        known = ", ".join(f"{precision} for {runtime}" for runtime, precision in QUANTISERS)
        raise BadInput(f"no quantisation to {precision} for {runtime}; there are: {known}")
    _check_rows(model, rows)
    return QUANTISERS[runtime, precision](model, rows, narrow_weights, to_carve)


def _follow(cut: Cut, sizes: Mapping[str, tuple[int, ...]]) -> list[Cut]:
    """The cut of a weight, and with its columns those of its scales."""
    names = [cut.initializer + end for end in (SCALE, ZERO_POINT)] if cut.axis == 1 else []
    # a zero point without an axis serves all channels
    return [cut, *(Cut(name, 0, cut.by, cut.groups) for name in names if sizes.get(name))]


def _check_rows(model: onnx.ModelProto, rows: Rows) -> None:
    if not rows:
        raise BadInput("quantising needs calibration rows; none were given")
    wanted = {item.name: _input(item) for item in model.graph.input}
    for index, row in enumerate(rows):
        found = {name: (tuple(value.shape), value.dtype) for name, value in row.items()}
        if found != wanted:
            raise BadInput(f"calibration row {index}: the graph takes {_say(wanted)}; given were {_say(found)}")


def _input(item: onnx.ValueInfoProto) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of an input of the graph."""
    kind = item.type.tensor_type
    return tuple(size.dim_value for size in kind.shape.dim), helper.tensor_dtype_to_np_dtype(kind.elem_type)


def _say(inputs: Mapping[str, tuple[tuple[int, ...], Any]]) -> str:
    return ", ".join(f"{name} {dtype} {shape}" for name, (shape, dtype) in sorted(inputs.items())) or "none"
