"""What the runtimes can be asked for: providers and precisions, and what these need of a host."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from instatune_deploy.devices.runs import Run
from instatune_deploy.devices.runtimes import modules
from instatune_deploy.devices.runtimes.base import Graph, Refused, Session
from instatune_deploy.errors import BadInput

PRECISIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "onnxruntime": {
        "cpu": ("fp32", "int8", "int8-dynamic"),
        "cuda": ("fp32", "fp16"),
        "tensorrt": ("fp32", "fp16"),
    },
    "openvino": {
        "cpu": ("fp32", "bf16", "fp16", "int8"),
        "gpu": ("fp32", "fp16", "int8"),
        "npu": ("fp16", "int8"),
    },
}
"""By runtime and provider, the precisions it can be asked for."""
CPU_FLAGS = {"bf16": ("avx512_bf16", "amx_bf16"), "fp16": ("amx_fp16", "avx512_fp16", "asimdhp")}
"""A CPU computes in a precision itself when it has one of these; without them a runtime would only emulate it."""


def check_run(runtime: str, precision: str, provider: str = "cpu") -> None:
    """``BadInput`` unless there is such a runtime, it has that provider, and can be asked for ``precision`` there."""
    if runtime not in PRECISIONS:
        raise BadInput(f"unknown runtime '{runtime}'; there are: {', '.join(PRECISIONS)}")
    providers = PRECISIONS[runtime]
    if provider not in providers:
        raise BadInput(f"{runtime} has no provider '{provider}'; it has {', '.join(providers)}")
    if precision not in providers[provider]:
        raise BadInput(f"{runtime} does not run {precision} on {provider}; it runs {', '.join(providers[provider])}")


def missing_for(runtime: str, precision: str, provider: str, cpu_flags: frozenset[str]) -> list[str]:
    """What this host lacks for a run, each as a phrase that follows "it needs"."""
    if not modules.installed(runtime):
        return [f"package {runtime}"]
    if provider == "cpu":
        flags = CPU_FLAGS.get(precision, ())
        return (
            [] if not flags or not cpu_flags.isdisjoint(flags) else [f"CPU flag {' or '.join(flags)} to compute in {precision}"]
        )
    lacks = modules.runtime_module(runtime).missing_provider(provider)
    return [] if lacks is None else [lacks]


def open_session(graph: Graph, runtime: str, precision: str, threads: int, provider: str = "cpu") -> Session:
    """Load and compile ``graph``: the bytes of an ONNX model, or the path of an .onnx or OpenVINO .xml file.

    ``BadInput`` when the graph cannot be read, or when the runtime would not run it in ``precision`` on ``threads`` threads,
    or has no such provider on this host. `base.RunFailed` when memory runs out meanwhile.
    """
    check_run(runtime, precision, provider)
    if threads < 1:
        raise BadInput(f"threads must be at least 1 (found {threads})")
    with refusals_are_bad_input():
        return modules.open_run(graph, Run(runtime, precision, threads, provider))


@contextmanager
def refusals_are_bad_input() -> Iterator[None]:
    """What a runtime refuses is the user's to mend."""
    try:
        yield
    except Refused as error:
        raise BadInput(str(error)) from error


def version(runtime: str) -> str:
    """The installed version of ``runtime``."""
    with refusals_are_bad_input():
        return modules.version(runtime)
