"""Where each runtime's file is. A new runtime is one file that defines `base.RuntimeModule`, one line here and its precisions in
`registry`.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import cast

from instatune_deploy.devices.runs import Run
from instatune_deploy.devices.runtimes.base import Graph, Refused, RuntimeModule, Session

MODULES = {
    "onnxruntime": "instatune_deploy.devices.runtimes.onnxruntime",
    "openvino": "instatune_deploy.devices.runtimes.openvino",
}
"""A runtime is called like the package it needs."""


def installed(package: str) -> bool:
    """Whether ``package`` can be imported (it is not)."""
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):  # a part of a package that is not there, or no name at all
        return False


def runtime_module(runtime: str) -> RuntimeModule:
    """The file of ``runtime``, with the runtime loaded. ``Refused`` when it is not known or not installed."""
    if runtime not in MODULES:
        raise Refused(f"unknown runtime '{runtime}'; there are: {', '.join(MODULES)}")
    if not installed(runtime):
        raise Refused(f"the runtime {runtime} is not installed; `pip install {runtime}` installs it")
    return cast(RuntimeModule, importlib.import_module(MODULES[runtime]))


def open_run(graph: Graph, run: Run) -> Session:
    """Load and compile ``graph`` as ``run`` says; see `base.RuntimeModule` and `base.Refused`."""
    return runtime_module(run.runtime).open_session(graph, run.precision, run.threads, run.provider)


def version(runtime: str) -> str:
    """The installed version of ``runtime``; ``Refused`` as above."""
    return runtime_module(runtime).version()


def version_for(run: Run) -> str:
    """The same, and what computes where that is not the CPU: two cards in one host are two devices."""
    if run.provider == "cpu":
        return version(run.runtime)
    return f"{version(run.runtime)} on {runtime_module(run.runtime).provider_name(run.provider)}"
