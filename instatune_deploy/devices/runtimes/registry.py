"""The runtimes there are. A new one is one file that defines `base.RuntimeModule`, and one line here."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import cast

from instatune_deploy.devices.runtimes.base import Graph, RuntimeModule, Session
from instatune_deploy.errors import BadInput


@dataclass(frozen=True)
class RuntimeEntry:
    """Where a runtime's file is, the package it needs, and the precisions it can be asked for."""

    module: str
    package: str
    precisions: tuple[str, ...]


RUNTIMES = {
    "onnxruntime": RuntimeEntry("instatune_deploy.devices.runtimes.onnxruntime", "onnxruntime", ("fp32",)),
    "openvino": RuntimeEntry("instatune_deploy.devices.runtimes.openvino", "openvino", ("fp32", "bf16")),
}


def entry(runtime: str) -> RuntimeEntry:
    """The entry of ``runtime``; ``BadInput`` names those there are."""
    if runtime not in RUNTIMES:
        raise BadInput(f"unknown runtime '{runtime}'; there are: {', '.join(RUNTIMES)}")
    return RUNTIMES[runtime]


def check_precision(runtime: str, precision: str) -> None:
    """``BadInput`` unless ``runtime`` can be asked for ``precision``."""
    if precision not in entry(runtime).precisions:
        raise BadInput(f"{runtime} does not run {precision} here; it runs {', '.join(entry(runtime).precisions)}")


def installed(package: str) -> bool:
    """Whether ``package`` can be imported (it is not)."""
    return importlib.util.find_spec(package) is not None


def open_session(graph: Graph, runtime: str, precision: str, threads: int) -> Session:
    """Load and compile ``graph``: the bytes of an ONNX model, or the path of an .onnx or OpenVINO .xml file.

    ``BadInput`` when the graph cannot be read, or when the runtime would not run it in ``precision`` on ``threads`` threads.
    """
    check_precision(runtime, precision)
    if threads < 1:
        raise BadInput(f"threads must be at least 1 (found {threads})")
    return _module(runtime).open_session(graph, precision, threads)


def version(runtime: str) -> str:
    """The installed version of ``runtime``."""
    return _module(runtime).version()


def _module(runtime: str) -> RuntimeModule:
    package = entry(runtime).package
    if not installed(package):
        raise BadInput(f"the runtime {runtime} is not installed; `pip install {package}` installs it")
    return cast(RuntimeModule, importlib.import_module(entry(runtime).module))
