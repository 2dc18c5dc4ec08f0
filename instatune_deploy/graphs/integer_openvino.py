"""Quantise for OpenVINO with NNCF's post-training quantisation.

NNCF is given the ONNX graph, not OpenVINO's, so that its result can be carved; OpenVINO reads it as it is.

A graph that is carved later must not be fitted to the full network more than it need be: SmoothQuant (arXiv 2211.10438)
scales single channels by what the full network shows in them, and a narrower network shows something else. So it and bias
correction are left to graphs that stay as they are, and ranges reach from the smallest to the largest value seen.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Iterator

import onnx

from instatune_deploy.errors import BadInput
from instatune_deploy.graphs.calibration import Rows
from instatune_deploy.graphs.naming import SCALE, ZERO_POINT


def nncf_int8(model: onnx.ModelProto, rows: Rows, narrow_weights: bool = False, to_carve: bool = False) -> onnx.ModelProto:
    """See `quantise.quantise_model`. The classifier (Gemm, a few rows) stays in fp32. ``BadInput`` without NNCF."""
    # it would report its use to its makers
    os.environ.setdefault("NNCF_CI", "1")
    try:
        import nncf
    except ImportError as error:
        raise BadInput("quantising for openvino needs NNCF; `pip install nncf` installs it") from error
    from nncf.quantization import advanced_parameters as advanced
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    parameters = advanced.AdvancedQuantizationParameters(
        overflow_fix=advanced.OverflowFix.ENABLE if narrow_weights else advanced.OverflowFix.DISABLE
    )
    if to_carve:
        parameters.disable_bias_correction = True
        parameters.smooth_quant_alphas = advanced.AdvancedSmoothQuantParameters(matmul=-1)
        parameters.activations_range_estimator_params = RangeEstimatorParametersSet.MINMAX
    given = onnx.ModelProto()
    given.CopyFrom(model)
    with _quiet():
        result: onnx.ModelProto = nncf.quantize(
            given,
            nncf.Dataset([dict(row) for row in rows]),
            subset_size=len(rows),
            model_type=nncf.ModelType.TRANSFORMER,
            ignored_scope=nncf.IgnoredScope(types=["Gemm"], validate=False),
            advanced_parameters=parameters,
        )
    _rename(result, model)
    del result.graph.value_info[:], result.metadata_props[:]
    return result


def _rename(result: onnx.ModelProto, source: onnx.ModelProto) -> None:
    """Give every quantised weight its own name again, and what belongs to it names after it."""
    weights = {item.name for item in source.graph.initializer}
    before = {node.name: node for node in source.graph.node}
    producers = {name: node for node in result.graph.node for name in node.output}
    names: dict[str, str] = {}
    for node in result.graph.node:
        if node.name not in before:
            continue
        for place, weight in enumerate(before[node.name].input):
            dequantised = producers.get(node.input[place])
            if weight not in weights or dequantised is None:
                continue
            names.update(zip(dequantised.input, (weight, weight + SCALE, weight + ZERO_POINT), strict=True))
    for item in result.graph.initializer:
        item.name = names.get(item.name, item.name)
    for node in result.graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = names.get(name, name)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """NNCF draws progress bars."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)
