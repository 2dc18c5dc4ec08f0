from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from instatune_deploy.devices import doctor
from instatune_deploy.devices.doctor import Check, Findings, diagnose, raise_if_unusable
from instatune_deploy.devices.host import Host
from instatune_deploy.devices.host_state import HostState, Process
from instatune_deploy.devices.installation import Installation, Package, Runtime
from instatune_deploy.devices.runtimes.base import Refused
from instatune_deploy.devices.steadiness import Steadiness
from instatune_deploy.errors import BadInput

GIB = 1 << 30
HOST = Host("x86_64", "A CPU", frozenset({"avx2", "avx512_vnni"}), cores=4, memory_bytes=8 * GIB, os="Linux 6.1")
PI = Host("aarch64", "A Pi", frozenset({"asimd", "asimdhp", "asimddp"}), 4, 8 * GIB, "Linux 6.6", "Raspberry Pi 5")
QUIET = HostState(
    processors=4,
    physical_cores=4,
    allowed=4,
    quota=None,
    governors=("performance",),
    turbo=False,
    load_average=0.1,
    others_cores=0.05,
    steal_share=0.0,
    busiest=(),
    swap_used_bytes=0,
    memory_free_bytes=6 * GIB,
    disk_free_bytes=50 * GIB,
    work="runs",
    throttled=None,
)
ORT = Runtime("onnxruntime", "1.30.0", ("onnxruntime",), ("cpu",), {"cuda": "a GPU"})
GOOD = Installation((Package("torch", "2.13.0", ">=2.9", True), Package("rich", "15", "", True)), (ORT,), None)
STEADY = Steadiness("onnxruntime fp32, 1 thread", 3.0, 0.02, 1.0, 12)
FINE = Findings("3.11.7", HOST, QUIET, GOOD, (STEADY,))


def state(**changes: object) -> Findings:
    return replace(FINE, state=replace(QUIET, **changes))  # type: ignore[arg-type]


def installed(**changes: object) -> Findings:
    return replace(FINE, installation=replace(GOOD, **changes))  # type: ignore[arg-type]


def runtime(**changes: object) -> Findings:
    return installed(runtimes=(replace(ORT, **changes),))  # type: ignore[arg-type]


def check(findings: Findings, name: str) -> Check:
    (found,) = [item for item in diagnose(findings) if item.name == name]
    return found


def test_a_quiet_host_where_all_is_well() -> None:
    checks = diagnose(FINE)
    assert {item.state for item in checks} == {"ok"}
    assert not any(item.advice for item in checks)
    names = [item.name for item in checks]
    assert len(names) == len(set(names))
    raise_if_unusable(checks)


@pytest.mark.parametrize(
    ("findings", "name", "verdict", "found", "advice"),
    [
        (installed(needed=None), "packages", "note", "not installed", "pip install -e"),
        (runtime(version=None, providers=()), "onnxruntime", "note", "not installed", "`pip install onnxruntime`"),
        (runtime(broken="ImportError: no"), "onnxruntime", "problem", "cannot be loaded: ImportError: no", "--force-reinstall"),
        (
            runtime(packages=("onnxruntime", "onnxruntime-gpu")),
            "onnxruntime",
            "problem",
            "onnxruntime and onnxruntime-gpu are installed",
            "`pip uninstall onnxruntime onnxruntime-gpu`",
        ),
        (replace(FINE, host=replace(HOST, cpu_flags=frozenset())), "CPU", "note", "are not told", "measuring"),
        (replace(FINE, host=replace(HOST, cpu_flags=frozenset({"sse2"}))), "CPU", "note", "single numbers", "slow"),
        (
            replace(FINE, host=replace(HOST, cpu_flags=frozenset({"avx2"}))),
            "CPU",
            "ok",
            "not in bf16, int8, fp16",
            "hardly faster",
        ),
        (replace(FINE, host=PI), "CPU", "ok", "fp32: asimd; fp16: asimdhp; int8: asimddp; not in bf16", ""),
        (state(physical_cores=2), "cores", "note", "4 logical processors on 2 cores", "`threads: [2, all]`"),
        (state(physical_cores=None), "cores", "ok", "4 logical processors", ""),
        (state(allowed=2), "affinity", "note", "2 of 4 processors", "disturb"),
        (state(quota=2), "quota", "note", "2 cores of 4 processors", "--cpuset-cpus"),
        (state(governors=("ondemand",)), "governor", "note", "ondemand", "cpupower frequency-set -g performance"),
        (state(governors=()), "governor", "ok", "not visible, probably a virtual machine", ""),
        (state(turbo=True), "turbo", "note", "on", "cool well"),
        (state(turbo=None), "turbo", "ok", "not visible", ""),
        (state(throttled=0x50005), "heat", "problem", "0x50005: the voltage is too low", "nothing"),
        (state(throttled=0x50000), "heat", "note", "since it was started", "power supply"),
        (state(throttled=0), "heat", "ok", "neither", ""),
        (state(others_cores=None), "other load", "note", "not told", "close"),
        (
            state(others_cores=1.0, busiest=(Process("miner", 7, 0.96),)),
            "other load",
            "note",
            "others keep 1.0 of 4 processors busy: miner (process 7): 1.0",
            "at most 3 threads can be measured meanwhile; stop the busiest",
        ),
        (state(others_cores=3.9), "other load", "problem", "3.9 of 4", "nothing can be measured meanwhile; wait"),
        (state(steal_share=0.2), "steal", "note", "20% of", "dedicated"),
        (state(memory_free_bytes=GIB), "memory", "note", "1.0 GiB free", "little to fine-tune"),
        (state(swap_used_bytes=GIB), "swap", "note", "1.0 GiB in use", "swapoff"),
        (state(disk_free_bytes=GIB), "disk", "note", "1.0 GiB free for runs", "--work"),
        (state(disk_free_bytes=GIB // 8), "disk", "problem", "0.1 GiB free for runs", "--work"),
        (replace(FINE, steadiness="no onnx"), "steadiness", "note", "not measured: no onnx", ""),
        (replace(FINE, host=replace(HOST, cpu_flags=HOST.cpu_flags | {"hypervisor"})), "machine", "note", "virtual", "share"),
    ],
)
def test_what_is_not_as_it_should_be(findings: Findings, name: str, verdict: str, found: str, advice: str) -> None:
    said = check(findings, name)
    assert said.state == verdict
    assert found in said.found
    assert advice in said.advice
    assert bool(said.advice) == bool(advice)
    assert not said.blocking


def test_packages_that_are_missing_or_too_old() -> None:
    bad = (Package("torch", "2.1", ">=2.9", False), Package("rich", None, "", False), Package("numpy", "2.4", ">=2", True))
    checks = diagnose(installed(needed=bad))
    with pytest.raises(BadInput) as caught:
        raise_if_unusable(checks)
    assert caught.value.exit_code == 2
    assert caught.value.message == (
        "instatune-deploy cannot be used here: torch 2.1 (needed: >=2.9), rich is missing (needed: any); "
        "`pip install 'torch>=2.9' 'rich'`"
    )


def test_a_gpu_that_no_runtime_serves() -> None:
    gpu = {"name": "A GPU", "driver_version": "570", "clocks.sm": "1980 MHz", "utilization.gpu": "0 %"}
    said = check(installed(gpu=gpu), "NVIDIA GPU")
    assert (said.state, said.found) == ("note", "A GPU, driver 570, 1980 MHz, 0 % busy")
    assert "onnxruntime-gpu" in said.advice
    served = installed(gpu=gpu, runtimes=(replace(ORT, providers=("cpu", "cuda")),))
    assert check(served, "NVIDIA GPU").state == "ok"


@pytest.mark.parametrize(("agreeing", "verdict"), [(1.0, "ok"), (0.8, "ok"), (0.5, "note"), (0.0, "problem")])
def test_steadiness(agreeing: float, verdict: str) -> None:
    said = check(replace(FINE, steadiness=(replace(STEADY, agreeing=agreeing, spread=0.3),)), "steadiness")
    assert said.state == verdict
    assert said.found == (
        f"onnxruntime fp32, 1 thread: 3.00 ms; medians of 12 windows within 30%, {agreeing:.0%} of three in a row within 5%"
    )


def test_advice_for_steadier_timings_names_what_applies_here() -> None:
    shaky = (replace(STEADY, agreeing=0.0),)
    calm = check(replace(FINE, steadiness=shaky), "steadiness").advice
    assert calm == "or leave a processor free (`threads:` in the hardware profile)"
    busy = replace(state(others_cores=2.0, governors=("powersave",), turbo=True, quota=2), steadiness=shaky)
    advice = check(busy, "steadiness").advice
    for word in ("stop other work", "governor", "turbo", "quota", "leave a processor free"):
        assert word in advice
    assert "hardware's other users" not in advice


@pytest.mark.parametrize("error", [Refused("not installed\nat all"), ImportError("no onnx")])
def test_findings_of_a_host_whose_steadiness_cannot_be_measured(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(cores: int) -> tuple[Steadiness, ...]:
        raise error

    patched: dict[str, Callable[..., object]] = {
        "host_state": lambda work: QUIET,
        "installation": lambda: GOOD,
        "steadiness": fails,
    }
    for name, function in patched.items():
        monkeypatch.setattr(doctor, name, function)
    found = Findings.of_this_host(tmp_path)
    assert (found.state, found.installation) == (QUIET, GOOD)
    assert found.steadiness in {"not installed", "no onnx"}
