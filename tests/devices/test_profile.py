from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from instatune_deploy.config import ProfileSettings, Requirements
from instatune_deploy.devices import profile
from instatune_deploy.devices.host import Host
from instatune_deploy.devices.profile import RUNS_PER_WINDOW, all_profiles, load_profile, missing, resolve
from instatune_deploy.devices.runs import Run
from instatune_deploy.devices.runtimes import modules, registry
from instatune_deploy.devices.statistics import limits
from instatune_deploy.errors import BadInput
from instatune_deploy.supernet.architecture import Architecture

GOOD = """name: mine
description: a test
runs:
  - runtime: onnxruntime
  - {runtime: openvino, precision: bf16, requires: {any_cpu_flag: [avx512_bf16, amx_bf16]}}
"""


def settings(**changes: object) -> ProfileSettings:
    return ProfileSettings.model_validate({"name": "x", "description": "", "runs": [{"runtime": "onnxruntime"}], **changes})


SHIPPED = {item.name: item for item in all_profiles()}
PI = Host(
    machine="aarch64",
    cpu_model="Raspberry Pi 5 Model B Rev 1.0",
    cpu_flags=frozenset({"asimd", "asimdhp", "asimddp"}),
    cores=4,
    memory_bytes=8 << 30,
    os="Linux 6.6",
    board="Raspberry Pi 5 Model B Rev 1.0",
)
SERVER = Host(
    machine="x86_64",
    cpu_model="Intel(R) Xeon(R) Platinum 8481C CPU",
    cpu_flags=frozenset({"avx2", "avx512_vnni", "amx_int8", "amx_bf16"}),
    cores=8,
    memory_bytes=64 << 30,
    os="Linux 6.1",
)
LAPTOP = replace(SERVER, cpu_model="Intel(R) Core(TM) Ultra 7 155H", cpu_flags=frozenset({"avx2", "avx_vnni"}))


def test_shipped_profiles() -> None:
    assert set(SHIPPED) == {
        "xeon-cpu",
        "generic-cpu",
        "laptop-cpu",
        "arm-edge-cpu",
        "raspberry-pi",
        "nvidia-gpu",
        "intel-igpu",
        "intel-npu",
    }
    runs = {name: [(run.runtime, run.provider, run.precision) for run in item.runs] for name, item in SHIPPED.items()}
    assert runs["xeon-cpu"] == [
        ("openvino", "cpu", "bf16"),
        ("openvino", "cpu", "fp32"),
        ("openvino", "cpu", "int8"),
        ("onnxruntime", "cpu", "fp32"),
        ("onnxruntime", "cpu", "int8"),
        ("onnxruntime", "cpu", "int8-dynamic"),
    ]
    assert {run[1] for run in runs["nvidia-gpu"]} == {"cuda", "tensorrt"}
    assert {run[1] for run in runs["intel-igpu"]} == {"gpu"}
    assert {run[1:] for run in runs["intel-npu"]} == {("npu", "fp16"), ("npu", "int8")}
    assert {run[0] for run in runs["raspberry-pi"]} == {"onnxruntime"}
    assert (SHIPPED["raspberry-pi"].threads, SHIPPED["raspberry-pi"].statistic) == (4, "p90")
    assert SHIPPED["raspberry-pi"].timing.window_ms > SHIPPED["xeon-cpu"].timing.window_ms
    assert (SHIPPED["generic-cpu"].threads, SHIPPED["generic-cpu"].statistic) == (1, "p90")
    assert (SHIPPED["laptop-cpu"].threads, SHIPPED["laptop-cpu"].statistic) == (2, "p50")


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_every_run_of_a_shipped_profile_can_be_asked_for(name: str) -> None:
    for run in SHIPPED[name].runs:
        registry.check_run(run.runtime, run.precision, run.provider)


@pytest.mark.parametrize(
    ("host", "names"),
    [
        (PI, {"generic-cpu", "laptop-cpu", "arm-edge-cpu", "raspberry-pi", "nvidia-gpu"}),
        (replace(PI, board="NVIDIA Jetson Orin Nano"), {"generic-cpu", "laptop-cpu", "arm-edge-cpu", "nvidia-gpu"}),
        (replace(PI, machine="armv7l"), {"generic-cpu", "laptop-cpu", "nvidia-gpu"}),
        (SERVER, {"generic-cpu", "laptop-cpu", "xeon-cpu", "nvidia-gpu", "intel-igpu"}),
        (LAPTOP, {"generic-cpu", "laptop-cpu", "xeon-cpu", "nvidia-gpu", "intel-igpu", "intel-npu"}),
        (replace(LAPTOP, os="Darwin 24.0"), {"generic-cpu", "laptop-cpu", "xeon-cpu", "nvidia-gpu"}),
    ],
    ids=["pi", "jetson", "32-bit-pi", "server", "laptop", "mac"],
)
def test_how_devices_are_recognised(host: Host, names: set[str]) -> None:
    assert {name for name, item in SHIPPED.items() if not missing(item.requires, host)} == names


def test_precisions_that_an_arm_processor_lacks() -> None:
    old = replace(PI, cpu_flags=frozenset({"asimd"}))
    device = resolve(SHIPPED["arm-edge-cpu"], old)
    assert [(item.run.precision, item.missing) for item in device.skipped] == [("fp16", ("CPU flag asimdhp",))]
    assert "fp16" in {run.precision for run in resolve(SHIPPED["arm-edge-cpu"], PI).runs}


def test_own_profile_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "any-file-name.yaml"
    path.write_text(GOOD)
    assert load_profile(str(path)).name == "mine"


def test_shipped_file_must_bear_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other.yaml").write_text(GOOD)
    monkeypatch.setattr(profile, "resource_folder", lambda _: tmp_path)
    with pytest.raises(BadInput, match=r"must be called 'other' \(found 'mine'\)"):
        load_profile(str(tmp_path / "other.yaml"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "runtime: onnxruntime",
            "runtime: tensorflow",
            r"p\.yaml:4: runs\.0\.runtime: .*'onnxruntime' or 'openvino'.*'tensorflow'",
        ),
        ("precision: bf16", "precision: fp4", r"p\.yaml:5: runs\.1\.precision: .*'fp4'"),
        (
            "runtime: onnxruntime",
            "runtime: onnxruntime\n    precision: bf16",
            r"p\.yaml:4: runs\.0: onnxruntime does not run bf16 on cpu; it runs fp32, int8, int8-dynamic",
        ),
        ("description", "threds: 2\ndescription", r"p\.yaml:2: unknown key 'threds'; did you mean 'threads'\?"),
        ("description", "threads: 0\ndescription", r"p\.yaml:2: threads"),
        ("any_cpu_flag", "any_cpu_flags", r"p\.yaml:5: unknown key .*did you mean 'any_cpu_flag'\?"),
        ("precision: bf16", "provider: tpu", r"p\.yaml:5: runs\.1\.provider: .*'cuda'.*'tpu'"),
        ("precision: bf16", "provider: cuda", r"p\.yaml:5: runs\.1: openvino has no provider 'cuda'; it has cpu, gpu, npu"),
        ("precision: bf16", "provider: npu", r"p\.yaml:5: runs\.1: openvino does not run fp32 on npu; it runs fp16, int8"),
        ("description", "threads: -1\ndescription", r"p\.yaml:2: threads.*found -1"),
        (
            "description",
            "threads: 5000\ndescription",
            r"p\.yaml:2: threads: must be 'all', a whole number from 1 to 1024, or a list of such \(found 5000\)$",
        ),
        ("description", "threads: [1, 0]\ndescription", r"p\.yaml:2: threads: must be .* \(found \[1, 0\]\)$"),
        ("description", "threads: []\ndescription", r"p\.yaml:2: threads: must be 'all'"),
        ("description", "threads: true\ndescription", r"p\.yaml:2: threads: must be 'all'"),
        ("description", "threads: [2, 2]\ndescription", r"p\.yaml:2: threads: the same number stands here twice"),
        ("description", "threads: many\ndescription", r"p\.yaml:2: threads.*found 'many'"),
        (
            "description",
            "requires: {board: '(Pi'}\ndescription",
            r"p\.yaml:2: requires\.board: not a regular expression: missing \)",
        ),
        ("description", "requires: {cpu_model: '*'}\ndescription", r"p\.yaml:2: requires\.cpu_model: not a regular expression"),
        ("description", "requires: {board: ''}\ndescription", r"p\.yaml:2: requires\.board: "),
        ("description", "requires: {bord: Pi}\ndescription", r"p\.yaml:2: unknown key 'requires\.bord'; did you mean 'board'"),
        ("description", "requires: {os: Linux}\ndescription", r"p\.yaml:2: requires\.os: .*list"),
        (
            "description",
            "requires: {cpu_flags: [a, b, a]}\ndescription",
            r"p\.yaml:2: requires\.cpu_flags: 'a' stands here twice",
        ),
        ("description", "requires: {cpu_flags: ['a b']}\ndescription", r"p\.yaml:2: requires\.cpu_flags"),
    ],
)
def test_bad_profiles(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(BadInput, match=message) as caught:
        load_profile(str(path))
    assert "\n" not in caught.value.message


def test_unknown_profile_suggests_the_nearest() -> None:
    with pytest.raises(BadInput, match="unknown hardware profile 'xeon-cpus'; did you mean 'xeon-cpu'"):
        load_profile("xeon-cpus")


def test_missing_names_each_requirement(host: Host) -> None:
    wanted = Requirements(
        machine=["aarch64"],
        os=["Darwin", "Windows"],
        board="^Raspberry Pi",
        cpu_model="Intel",
        cpu_flags=["avx2", "avx512f"],
        any_cpu_flag=["avx512_bf16", "amx_bf16"],
        min_cores=8,
        packages=["numpy", "no_such_package"],
    )
    assert missing(wanted, host) == [
        "machine type aarch64 (x86_64 here)",
        "system Darwin or Windows (Linux here)",
        "a board like '^Raspberry Pi' (none here)",
        "a CPU model like 'Intel' (A CPU here)",
        "CPU flag avx512f",
        "CPU flag avx512_bf16 or amx_bf16",
        "at least 8 cores (4 here)",
        "package no_such_package",
    ]


def test_missing_is_empty_when_all_is_there(host: Host) -> None:
    assert missing(Requirements(), host) == []
    wanted = Requirements(machine=["arm64", "x86_64"], cpu_flags=["avx2"], any_cpu_flag=["amx_bf16", "fma"], min_cores=4)
    assert missing(wanted, host) == []
    named = Requirements(os=["Darwin", "Linux"], board="raspberry pi [45]", cpu_model="^a cpu$")
    assert missing(named, replace(host, board="Raspberry Pi 5 Model B")) == []


def test_resolve_splits_runs(host: Host) -> None:
    device = resolve(load_profile("xeon-cpu"), host)
    assert device.runs == (
        Run("openvino", "fp32", 4),
        Run("onnxruntime", "fp32", 4),
        Run("onnxruntime", "int8", 4),
        Run("onnxruntime", "int8-dynamic", 4),
    )
    assert [(str(item.run), item.missing) for item in device.skipped] == [
        ("openvino bf16, 4 threads", ("CPU flag avx512_bf16 or amx_bf16",)),
        ("openvino int8, 4 threads", ("CPU flag avx512_vnni or avx_vnni or amx_int8",)),
    ]
    assert (device.batch_size, device.sequence_length, device.statistic) == (1, 128, "p90")
    with_bf16 = resolve(load_profile("xeon-cpu"), replace(host, cpu_flags=host.cpu_flags | {"amx_bf16"}))
    assert with_bf16.runs[0] == Run("openvino", "bf16", 4)


def test_resolve_tries_every_number_of_threads(host: Host) -> None:
    device = resolve(settings(threads=[1, "all", 4]), host)
    assert device.runs == (Run("onnxruntime", "fp32", 1), Run("onnxruntime", "fp32", 4))


def test_resolve_skips_runtimes_that_are_not_installed(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (profile, modules):
        monkeypatch.setattr(module, "installed", lambda package: package != "openvino")
    device = resolve(load_profile("laptop-cpu"), host)
    assert device.runs == (Run("onnxruntime", "fp32", 2),)
    assert device.skipped[0].missing == ("package openvino",)


def test_resolve_says_what_the_profile_needs(host: Host) -> None:
    with pytest.raises(BadInput, match=r"'xeon-cpu' cannot be served by this host: it needs CPU flag avx2$"):
        resolve(load_profile("xeon-cpu"), replace(host, cpu_flags=frozenset()))


def test_resolve_says_what_every_run_needs(host: Host) -> None:
    wanted = settings(runs=[{"runtime": "openvino", "precision": "bf16", "requires": {"cpu_flags": ["amx_bf16"]}}])
    with pytest.raises(BadInput, match=r"'x' cannot be served by this host: openvino bf16, 4 threads needs CPU flag amx_bf16$"):
        resolve(wanted, host)


def test_resolve_refuses_more_threads_than_cores(host: Host) -> None:
    assert resolve(settings(threads=4), host).runs[0].threads == 4
    with pytest.raises(BadInput, match="it runs 5 threads, and there are 4 cores"):
        resolve(settings(threads=5), host)


def test_deployment_of_a_device(host: Host) -> None:
    device = resolve(settings(threads=3, batch_size=2, sequence_length=64), host)
    architecture = Architecture((0,), (2,), (8,))
    made = device.deployment(architecture, device.runs[0])
    assert (made.architecture, made.runtime, made.precision) == (architecture, "onnxruntime", "fp32")
    assert (made.threads, made.batch_size, made.sequence_length) == (3, 2, 64)


def test_a_rare_percentile_takes_more_runs() -> None:
    """Of 299 runs the slowest is an upper limit of the 99th percentile; of a few, nothing is."""
    device = resolve(settings(timing={"min_runs_per_window": 20}), SERVER)
    assert [device.judged_by(statistic).timing.min_runs_per_window for statistic in ("p50", "p90", "p99")] == [20, 20, 100]
    for statistic, count in RUNS_PER_WINDOW.items():
        share = {"p50": 0.5, "p90": 0.9, "p99": 0.99}[statistic]
        runs = 3 * max(count, 10)
        assert limits(list(range(1, runs + 1)), share).upper_ms is not None
