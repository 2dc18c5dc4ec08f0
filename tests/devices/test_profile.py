from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from instatune_deploy.config import ProfileSettings, Requirements
from instatune_deploy.devices import profile
from instatune_deploy.devices.host import Host
from instatune_deploy.devices.profile import Run, all_profiles, load_profile, missing, resolve
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


def test_shipped_profiles() -> None:
    shipped = {item.name: item for item in all_profiles()}
    assert {"xeon-cpu", "generic-cpu", "laptop-cpu"} <= set(shipped)
    assert [(run.runtime, run.precision) for run in shipped["xeon-cpu"].runs] == [
        ("openvino", "bf16"),
        ("openvino", "fp32"),
        ("onnxruntime", "fp32"),
    ]
    assert (shipped["generic-cpu"].threads, shipped["generic-cpu"].statistic) == (1, "p90")
    assert (shipped["laptop-cpu"].threads, shipped["laptop-cpu"].statistic) == (2, "p50")


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
            r"onnxruntime does not run bf16 here; it runs fp32",
        ),
        ("description", "threds: 2\ndescription", r"p\.yaml:2: unknown key 'threds'; did you mean 'threads'\?"),
        ("description", "threads: 0\ndescription", r"p\.yaml:2: threads"),
        ("any_cpu_flag", "any_cpu_flags", r"p\.yaml:5: unknown key .*did you mean 'any_cpu_flag'\?"),
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
        cpu_flags=["avx2", "avx512f"],
        any_cpu_flag=["avx512_bf16", "amx_bf16"],
        min_cores=8,
        packages=["numpy", "no_such_package"],
    )
    assert missing(wanted, host) == [
        "machine type aarch64 (x86_64 here)",
        "CPU flag avx512f",
        "CPU flag avx512_bf16 or amx_bf16",
        "at least 8 cores (4 here)",
        "package no_such_package",
    ]


def test_missing_is_empty_when_all_is_there(host: Host) -> None:
    assert missing(Requirements(), host) == []
    wanted = Requirements(machine=["arm64", "x86_64"], cpu_flags=["avx2"], any_cpu_flag=["amx_bf16", "fma"], min_cores=4)
    assert missing(wanted, host) == []


def test_resolve_splits_runs(host: Host) -> None:
    device = resolve(load_profile("xeon-cpu"), host)
    assert device.runs == (Run("openvino", "fp32"), Run("onnxruntime", "fp32"))
    assert [(str(item.run), item.missing) for item in device.skipped] == [
        ("openvino bf16", ("CPU flag avx512_bf16 or amx_bf16",)),
    ]
    assert (device.threads, device.batch_size, device.sequence_length, device.statistic) == (4, 1, 128, "p90")
    with_bf16 = resolve(load_profile("xeon-cpu"), replace(host, cpu_flags=host.cpu_flags | {"amx_bf16"}))
    assert with_bf16.runs[0] == Run("openvino", "bf16")


def test_resolve_skips_runtimes_that_are_not_installed(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "installed", lambda package: package != "openvino")
    device = resolve(load_profile("laptop-cpu"), host)
    assert device.runs == (Run("onnxruntime", "fp32"),)
    assert device.skipped[0].missing == ("package openvino",)


def test_resolve_says_what_the_profile_needs(host: Host) -> None:
    with pytest.raises(BadInput, match=r"'xeon-cpu' cannot be served by this host: it needs CPU flag avx2$"):
        resolve(load_profile("xeon-cpu"), replace(host, cpu_flags=frozenset()))


def test_resolve_says_what_every_run_needs(host: Host) -> None:
    wanted = settings(runs=[{"runtime": "openvino", "precision": "bf16", "requires": {"cpu_flags": ["amx_bf16"]}}])
    with pytest.raises(BadInput, match=r"'x' cannot be served by this host: openvino bf16 needs CPU flag amx_bf16$"):
        resolve(wanted, host)


def test_resolve_refuses_more_threads_than_cores(host: Host) -> None:
    assert resolve(settings(threads=4), host).threads == 4
    with pytest.raises(BadInput, match="it runs 5 threads, and there are 4 cores"):
        resolve(settings(threads=5), host)


def test_deployment_of_a_device(host: Host) -> None:
    device = resolve(settings(threads=3, batch_size=2, sequence_length=64), host)
    architecture = Architecture((0,), (2,), (8,))
    made = device.deployment(architecture, device.runs[0])
    assert (made.architecture, made.runtime, made.precision) == (architecture, "onnxruntime", "fp32")
    assert (made.threads, made.batch_size, made.sequence_length) == (3, 2, 64)
