from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from instatune_deploy.devices import gpu
from instatune_deploy.devices.gpu import gpu_state

ANSWER = "NVIDIA H200, 570.86.15, 1980 MHz, 3201 MHz, 35, 0 %"


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Make the program of that shell text the only nvidia-smi there is."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def make(body: str) -> Path:
        program = folder / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{body}\n", encoding="latin-1")
        program.chmod(0o755)
        return program

    return make


def test_no_program_no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_state() is None


def test_names_and_clocks(nvidia_smi: Callable[[str], Path], tmp_path: Path) -> None:
    nvidia_smi(f'echo "$@" > {shlex.quote(str(tmp_path / "asked"))}; echo "{ANSWER}"')
    assert gpu_state() == {
        "name": "NVIDIA H200",
        "driver_version": "570.86.15",
        "clocks.sm": "1980 MHz",
        "clocks.mem": "3201 MHz",
        "temperature.gpu": "35",
        "utilization.gpu": "0 %",
    }
    asked = "--query-gpu=name,driver_version,clocks.sm,clocks.mem,temperature.gpu,utilization.gpu --format=csv,noheader --id=0"
    assert (tmp_path / "asked").read_text().strip() == asked


def test_only_the_first_gpu(nvidia_smi: Callable[[str], Path]) -> None:
    nvidia_smi(f'echo "{ANSWER}"; echo "{ANSWER.replace("H200", "T4")}"')
    state = gpu_state()
    assert state is not None
    assert state["name"] == "NVIDIA H200"


@pytest.mark.parametrize(
    "body",
    [
        f'echo "{ANSWER}"; exit 9',
        "echo 'NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver.'; exit 9",
        "echo 'No devices were found'",
        "true",
        "echo 'a, b, c'",
        "printf '\\377\\376\\200'",
    ],
    ids=["failed", "no driver", "no device", "silent", "too short", "no text"],
)
def test_nobody_tells(nvidia_smi: Callable[[str], Path], body: str) -> None:
    nvidia_smi(body)
    assert gpu_state() is None


def test_a_name_that_is_not_utf8(nvidia_smi: Callable[[str], Path]) -> None:
    nvidia_smi(f"printf 'G\\374nstig {ANSWER}\\n'".replace("%", "%%"))
    state = gpu_state()
    assert state is not None
    assert state["clocks.sm"] == "1980 MHz"


def test_a_program_that_cannot_be_started(nvidia_smi: Callable[[str], Path]) -> None:
    nvidia_smi("").write_bytes(b"\x7fELF and no more")
    assert gpu_state() is None


def test_a_program_that_hangs(nvidia_smi: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """It would answer after three seconds; nobody waits, though a child of it keeps the pipe open."""
    monkeypatch.setattr(gpu, "TIMEOUT_S", 0.2)
    nvidia_smi(f'/bin/sleep 3; echo "{ANSWER}"')
    assert gpu_state() is None
