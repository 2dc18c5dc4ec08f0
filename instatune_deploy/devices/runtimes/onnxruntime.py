"""ONNX Runtime: on the CPU, and on NVIDIA GPUs through its CUDA and TensorRT providers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import onnxruntime

from instatune_deploy.devices.gpu import gpu_state
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
    first_line,
)

ERRORS_ONLY = 3
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
DTYPES: dict[str, np.dtype[Any]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(float16)": np.dtype(np.float16),
    "tensor(int64)": np.dtype(np.int64),
    "tensor(int32)": np.dtype(np.int32),
    "tensor(uint8)": np.dtype(np.uint8),
    "tensor(bool)": np.dtype(np.bool_),
}

onnxruntime.set_default_logger_severity(ERRORS_ONLY)
_shared: int | None = None
"""Threads of the pool that sessions share, where they do (`share_threads`)."""


def version() -> str:
    """As in 1.31.1."""
    return str(onnxruntime.__version__)


def share_threads(threads: int) -> bool:
    """See `base.RuntimeModule`. It has one pool of threads a process to share, whose size is said once."""
    global _shared
    if _shared is None:
        try:
            onnxruntime.set_global_thread_pool_sizes(threads, 1)
        except Exception:  # its exceptions share no base class
            return False
        _shared = threads
    return _shared == threads


@functools.cache
def provider_name(provider: str) -> str:
    """See `base.RuntimeModule`."""
    state = gpu_state() or {}
    return f"{state.get('name', provider)}, driver {state.get('driver_version', 'unknown')}"


def missing_provider(provider: str) -> str | None:
    """See `base.RuntimeModule`."""
    wanted = PROVIDERS[provider]
    # what it was built with; whether a GPU is there is another question
    if wanted in onnxruntime.get_available_providers() and (provider == "cpu" or gpu_state() is not None):
        return None
    return f"ONNX Runtime with its {wanted} (the package onnxruntime-gpu in place of onnxruntime, and an NVIDIA GPU)"


def open_session(graph: Graph, precision: str, threads: int, provider: str) -> Session:
    """See `registry.open_session`."""
    return OnnxRuntimeSession(graph, precision, threads, provider)


def loading_source(precision: str, threads: int, provider: str) -> str:
    """See `base.RuntimeModule`."""
    preload = "" if provider == "cpu" else "    onnxruntime.preload_dlls()\n"
    return f"""\
def load(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = {threads}
{preload}    session = onnxruntime.InferenceSession(path, options, providers={_offered(provider, precision)!r})
    return lambda inputs: session.run(["logits"], inputs)[0]
"""


class OnnxRuntimeSession:
    """All graph optimisations, one stream, ``threads`` threads inside an operator (they spin while they wait: its default)."""

    def __init__(self, graph: Graph, precision: str, threads: int, provider: str = "cpu") -> None:
        options = onnxruntime.SessionOptions()
        if _shared not in (None, threads):
            raise Refused(f"ONNX Runtime runs {_shared} threads in this process by now, and no other number such as {threads}")
        self._threads, self._shared = threads, threads == _shared
        if self._shared:
            options.use_per_session_threads = False
        else:
            options.intra_op_num_threads = threads
            options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = ERRORS_ONLY
        source = graph if isinstance(graph, bytes) else str(graph)
        try:
            self._session = onnxruntime.InferenceSession(source, options, providers=_providers(provider, precision))
        except Exception as error:  # its exceptions share no base class of their own
            raise cannot_load(graph, "ONNX Runtime", _reason(error), error) from error
        used = self._session.get_providers()[0]
        if used != PROVIDERS[provider]:
            # it falls back with no more than a warning; then a figure would stand under a wrong name
            raise Refused(f"ONNX Runtime does not run {provider} on this host; it would run {used}")
        self._precision, self._provider = precision, provider
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
        checked = check_inputs(self._wanted, inputs)
        run_once: Callable[[], object] = partial(self._session.run_with_iobinding, binding)
        if self._provider == "cpu":
            # shares the array's memory
            for name, array in checked.items():
                binding.bind_cpu_input(name, array)
        else:
            for name, array in checked.items():
                binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array, "cuda", 0))
            run_once = partial(_run_and_wait, self._session, binding)
        run_once.inputs = checked  # type: ignore[attr-defined]  # they must live as long
        for name in self._outputs:
            binding.bind_output(name, "cpu" if self._provider == "cpu" else "cuda")
        try:
            run_once()
        except Exception as error:
            raise RunFailed(_reason(error)) from error
        return run_once

    def describe(self) -> dict[str, Any]:
        return {
            "version": version(),
            "precision": self._precision,
            "threads": self._threads,
            "thread_pool": "of the process" if self._shared else "of the session",
            "provider": self._provider,
            "providers": self._session.get_providers(),
            **({} if self._provider == "cpu" else {"gpu": gpu_state()}),
        }

    def close(self) -> None:
        del self._session


def _shape(shape: list[int | str | None]) -> Shape:
    return tuple(size if isinstance(size, int) else None for size in shape)


def _dtype(name: str, kind: str) -> np.dtype[Any]:
    if kind not in DTYPES:
        raise Refused(f"input {name} of the graph is a {kind}; supported are {', '.join(DTYPES)}")
    return DTYPES[kind]


def _reason(error: Exception) -> str:
    """Its messages start with ``[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : ``."""
    return first_line(error).rpartition(" : ")[2]


def _providers(provider: str, precision: str) -> list[Any]:
    """What is not taken by the first is computed by the next."""
    if provider != "cpu":
        onnxruntime.preload_dlls()  # CUDA's libraries from pip are not where the system looks
    return _offered(provider, precision)


def _offered(provider: str, precision: str) -> list[Any]:
    if provider == "cpu":
        return [PROVIDERS["cpu"]]
    # by itself it would multiply fp32 matrices in TF32, with 10 bits instead of 23
    cuda = (PROVIDERS["cuda"], {"use_tf32": "0"})
    if provider == "cuda":
        return [cuda, PROVIDERS["cpu"]]
    return [(PROVIDERS["tensorrt"], {"trt_fp16_enable": precision == "fp16"}), cuda, PROVIDERS["cpu"]]


def _run_and_wait(session: Any, binding: Any) -> None:
    """Until the GPU is done: a run may return before."""
    session.run_with_iobinding(binding)
    binding.synchronize_outputs()
