"""OpenVINO on the CPU."""

from __future__ import annotations

import functools
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import openvino
import psutil

from instatune_deploy.devices.runtimes.base import Array, Graph, Inputs, RunFailed, Session, Shape, check_inputs, graph_name
from instatune_deploy.errors import BadInput

HINTS = {"fp32": openvino.Type.f32, "bf16": openvino.Type.bf16}


def version() -> str:
    """With its build, as in 2026.4.1-22982-e213a147257."""
    return str(openvino.__version__)


def open_session(graph: Graph, precision: str, threads: int) -> Session:
    """See `registry.open_session`."""
    return OpenVinoSession(graph, precision, threads)


@functools.cache
def _core() -> openvino.Core:
    return openvino.Core()


class OpenVinoSession:
    """One stream of ``threads`` threads, latency before throughput, precision always said: the default depends on the CPU."""

    def __init__(self, graph: Graph, precision: str, threads: int) -> None:
        properties = {
            "INFERENCE_PRECISION_HINT": HINTS[precision],
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            # left alone, it would never use more threads than there are physical cores
            "ENABLE_HYPER_THREADING": threads > (psutil.cpu_count(logical=False) or threads),
        }
        try:
            model = _core().read_model(graph)
            self._compiled = _core().compile_model(model, "CPU", properties)
        except RuntimeError as error:
            raise BadInput(f"{graph_name(graph)}: OpenVINO cannot load it: {_reason(error)}") from error
        self._check(precision, threads)
        self._wanted = {
            item.get_any_name(): (_shape(item.get_partial_shape()), np.dtype(item.get_element_type().to_dtype()))
            for item in self._compiled.inputs
        }

    def _check(self, precision: str, threads: int) -> None:
        """OpenVINO takes what it cannot do for the next best it can; then a figure would stand under a wrong name."""
        used = self._compiled.get_property("INFERENCE_PRECISION_HINT")
        if used != HINTS[precision]:
            raise BadInput(f"OpenVINO does not run {precision} on this CPU; it would run {used.get_type_name()}")
        count = self._compiled.get_property("INFERENCE_NUM_THREADS")
        if count != threads:
            raise BadInput(
                f"OpenVINO would run {count} threads here, not {threads}; set 'threads: {count}' in the hardware profile"
            )

    @property
    def input_names(self) -> tuple[str, ...]:
        return tuple(self._wanted)

    @property
    def input_shapes(self) -> dict[str, Shape]:
        return {name: shape for name, (shape, _) in self._wanted.items()}

    def run(self, inputs: Inputs) -> dict[str, Array]:
        request, _ = self._bound(inputs)
        return {_name(port): request.get_tensor(port).data.copy() for port in self._compiled.outputs}

    def bind(self, inputs: Inputs) -> Callable[[], object]:
        return self._bound(inputs)[1]

    def _bound(self, inputs: Inputs) -> tuple[openvino.InferRequest, Callable[[], object]]:
        """A request that has run once on ``inputs``, and the function that runs it again."""
        request = self._compiled.create_infer_request()
        for name, array in check_inputs(self._wanted, inputs).items():
            # shared memory: the array is used in place and kept alive
            request.set_tensor(name, openvino.Tensor(array, shared_memory=True))
        run_once = partial(request.infer, share_outputs=True)
        try:
            run_once()
        except RuntimeError as error:
            raise RunFailed(_reason(error)) from error
        return request, run_once

    def describe(self) -> dict[str, Any]:
        get = self._compiled.get_property
        return {
            "version": version(),
            "precision": next(name for name, hint in HINTS.items() if hint == get("INFERENCE_PRECISION_HINT")),
            "threads": get("INFERENCE_NUM_THREADS"),
            "streams": get("NUM_STREAMS"),
            "devices": list(get("EXECUTION_DEVICES")),
            "hyper_threading": get("ENABLE_HYPER_THREADING"),
        }

    def close(self) -> None:
        del self._compiled


def _shape(shape: openvino.PartialShape) -> Shape:
    return tuple(None if size.is_dynamic else size.get_length() for size in shape)


def _name(port: openvino.ConstOutput) -> str:
    """An output can have several names; the one the graph's maker gave stands in its node's name."""
    given = port.get_node().get_friendly_name().partition("/sink_port")[0]
    return given if given in port.get_names() else port.get_any_name()


def _reason(error: RuntimeError) -> str:
    """The first line of its message that is not the place in its source code."""
    lines = [line for line in str(error).splitlines() if line and not line.startswith(("Exception from ", "Check "))]
    return lines[0] if lines else str(error)
