"""ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import onnxruntime

from instatune_deploy.devices.runtimes.base import Array, Graph, Inputs, RunFailed, Session, Shape, check_inputs, graph_name
from instatune_deploy.errors import BadInput
from instatune_deploy.files import reason

ERRORS_ONLY = 3
DTYPES: dict[str, np.dtype[Any]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(int64)": np.dtype(np.int64),
    "tensor(int32)": np.dtype(np.int32),
    "tensor(bool)": np.dtype(np.bool_),
}

onnxruntime.set_default_logger_severity(ERRORS_ONLY)


def version() -> str:
    """As in 1.31.1."""
    return str(onnxruntime.__version__)


def open_session(graph: Graph, precision: str, threads: int) -> Session:
    """See `registry.open_session`."""
    return OnnxRuntimeSession(graph, precision, threads)


class OnnxRuntimeSession:
    """All graph optimisations, one stream, ``threads`` threads inside an operator (they spin while they wait: its default)."""

    def __init__(self, graph: Graph, precision: str, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = ERRORS_ONLY
        source = graph if isinstance(graph, bytes) else str(graph)
        try:
            self._session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions share no base class of their own
            raise BadInput(f"{graph_name(graph)}: ONNX Runtime cannot load it: {_reason(error)}") from error
        self._precision = precision
        self._outputs = tuple(output.name for output in self._session.get_outputs())
        self._wanted = {item.name: (_shape(item.shape), _dtype(item.name, item.type)) for item in self._session.get_inputs()}

    @property
    def input_names(self) -> tuple[str, ...]:
        return tuple(self._wanted)

    @property
    def input_shapes(self) -> dict[str, Shape]:
        return {name: shape for name, (shape, _) in self._wanted.items()}

    def run(self, inputs: Inputs) -> dict[str, Array]:
        checked = check_inputs(self._wanted, inputs)
        try:
            values = self._session.run(self._outputs, checked)
        except Exception as error:
            raise RunFailed(_reason(error)) from error
        return dict(zip(self._outputs, values, strict=True))

    def bind(self, inputs: Inputs) -> Callable[[], object]:
        binding = self._session.io_binding()
        # an OrtValue made from numpy shares the array's memory; the binding keeps both alive
        for name, array in check_inputs(self._wanted, inputs).items():
            binding.bind_cpu_input(name, array)
        for name in self._outputs:
            binding.bind_output(name, "cpu")
        run_once = partial(self._session.run_with_iobinding, binding)
        try:
            run_once()
        except Exception as error:
            raise RunFailed(_reason(error)) from error
        return run_once

    def describe(self) -> dict[str, Any]:
        options = self._session.get_session_options()
        return {
            "version": version(),
            "precision": self._precision,
            "threads": options.intra_op_num_threads,
            "providers": self._session.get_providers(),
        }

    def close(self) -> None:
        del self._session


def _shape(shape: list[int | str | None]) -> Shape:
    return tuple(size if isinstance(size, int) else None for size in shape)


def _dtype(name: str, kind: str) -> np.dtype[Any]:
    if kind not in DTYPES:
        raise BadInput(f"input {name} of the graph is a {kind}; supported are {', '.join(DTYPES)}")
    return DTYPES[kind]


def _reason(error: Exception) -> str:
    """Its messages start with ``[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : ``."""
    return reason(error).rpartition(" : ")[2]
