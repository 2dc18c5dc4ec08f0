"""OpenVINO: on the CPU, and on Intel's GPUs and NPUs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import openvino

from instatune_deploy.devices.cpus import physical_cores
from instatune_deploy.devices.runtimes.base import (
    Array,
    Graph,
    Inputs,
    Refused,
    RunFailed,
    Session,
    Shape,
    cannot_load,
    check_inputs,
)

DEVICES = {"cpu": "CPU", "gpu": "GPU", "npu": "NPU"}
HINTS = {
    "fp32": openvino.Type.f32,
    "bf16": openvino.Type.bf16,
    "fp16": openvino.Type.f16,
    "int8": openvino.Type.f32,  # the graph says what is int8; this is for the rest of it
}


def version() -> str:
    """With its build, as in 2026.4.1-22982-e213a147257."""
    return str(openvino.__version__)


def share_threads(threads: int) -> bool:
    """See `base.RuntimeModule`. Its threads stop as soon as there is nothing to do: none is in another's way."""
    return True


def provider_name(provider: str) -> str:
    """See `base.RuntimeModule`."""
    return str(_core().get_property(DEVICES[provider], "FULL_DEVICE_NAME"))


def missing_provider(provider: str) -> str | None:
    """See `base.RuntimeModule`."""
    wanted = DEVICES[provider]
    # several are numbered: GPU.0, GPU.1
    if any(name.partition(".")[0] == wanted for name in _core().available_devices):
        return None
    return f"a device that OpenVINO calls {wanted} (an Intel {wanted} and its driver)"


def open_session(graph: Graph, precision: str, threads: int, provider: str) -> Session:
    """See `registry.open_session`."""
    return OpenVinoSession(graph, precision, threads, provider)


@functools.cache
def _core() -> openvino.Core:
    return openvino.Core()


def loading_source(precision: str, threads: int, provider: str) -> str:
    """See `base.RuntimeModule`."""
    return f"""\
def load(path):
    compiled = openvino.Core().compile_model(path, {DEVICES[provider]!r}, {settings(precision, threads, provider)!r})
    return lambda inputs: compiled(inputs)["logits"]
"""


def settings(precision: str, threads: int, provider: str) -> dict[str, Any]:
    """What OpenVINO is told, by its own names, in plain values: how `open_session` runs a graph on this host."""
    found: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
    if provider != "npu":  # which knows one precision and takes no hint
        found["INFERENCE_PRECISION_HINT"] = _hint(precision, provider).get_type_name()
    if provider == "cpu":
        found |= {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
        # left alone, it would never use more threads than there are physical cores
        found["ENABLE_HYPER_THREADING"] = threads > (physical_cores() or threads)
    return found


def _hint(precision: str, provider: str) -> openvino.Type:
    """What it computes in; a GPU computes the rest of an int8 graph in fp16."""
    return HINTS["fp16" if (provider, precision) == ("gpu", "int8") else precision]


class OpenVinoSession:
    """One stream of ``threads`` threads, latency before throughput, precision always said: the default depends on the CPU."""

    def __init__(self, graph: Graph, precision: str, threads: int, provider: str = "cpu") -> None:
        hint, properties = _hint(precision, provider), settings(precision, threads, provider)
        self._precision, self._threads, self._provider = precision, threads, provider
        try:
            model = _core().read_model(graph)
            self._compiled = _core().compile_model(model, DEVICES[provider], properties)
        except RuntimeError as error:
            raise cannot_load(graph, "OpenVINO", _reason(error), error) from error
        self._check(hint)
        self._wanted = {
            item.get_any_name(): (_shape(item.get_partial_shape()), np.dtype(item.get_element_type().to_dtype()))
            for item in self._compiled.inputs
        }

    def _check(self, hint: openvino.Type) -> None:
        """OpenVINO takes what it cannot do for the next best it can; then a figure would stand under a wrong name."""
        used = hint if self._provider == "npu" else self._compiled.get_property("INFERENCE_PRECISION_HINT")
        if used != hint:
            where = DEVICES[self._provider]
            raise Refused(f"OpenVINO does not run {self._precision} on this {where}; it would run {used.get_type_name()}")
        count = self._threads if self._provider != "cpu" else self._compiled.get_property("INFERENCE_NUM_THREADS")
        if count != self._threads:
            raise Refused(
                f"OpenVINO would run {count} threads here, not {self._threads}; set 'threads: {count}' in the hardware profile"
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
        arrays = check_inputs(self._wanted, inputs)
        for name, array in arrays.items():
            if self._provider == "cpu":
                # shared memory: the array is used in place
                request.set_tensor(name, openvino.Tensor(array, shared_memory=True))
            else:
                # memory of the device's own: anything else is copied in every run
                request.get_tensor(name).data[...] = array
        run_once = partial(request.infer, share_outputs=True)
        # neither the request nor its tensors keep them alive: it would compute with whatever comes to lie there
        run_once.inputs = arrays  # type: ignore[attr-defined]
        try:
            run_once()
        except RuntimeError as error:
            raise RunFailed(_reason(error)) from error
        return request, run_once

    def describe(self) -> dict[str, Any]:
        get = self._compiled.get_property
        said = {"version": version(), "precision": self._precision, "provider": self._provider, "threads": self._threads}
        said["devices"] = list(get("EXECUTION_DEVICES"))
        if self._provider == "cpu":
            said |= {
                "threads": get("INFERENCE_NUM_THREADS"),
                "streams": get("NUM_STREAMS"),
                "hint": get("INFERENCE_PRECISION_HINT").get_type_name(),
                "hyper_threading": get("ENABLE_HYPER_THREADING"),
            }
        else:
            said["device_name"] = _core().get_property(DEVICES[self._provider], "FULL_DEVICE_NAME")
        return said

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
