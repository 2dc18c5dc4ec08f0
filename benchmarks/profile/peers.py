"""Graphs of a model as others make them, each with the runtime it is meant for. optimum lives in an environment of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.results import REPOSITORY
from instatune_deploy.digests import file_sha256
from instatune_deploy.tasks.packages import cache_folder

OPTIMUM, OLIVE = "optimum", "olive"
"""Names of files in `benchmarks/environments`."""
SCRIPT = Path(__file__).with_name("optimum_export.py")
TOKENS = 128


@dataclass(frozen=True)
class Peer:
    """One graph file, and who made it how."""

    name: str
    runtime: str
    path: Path
    precision: str = "fp32"


def environment(name: str, given: Path | None) -> Path:
    """The Python of an environment: the given one, else one made once in the cache (up to 2 GB)."""
    if given is not None:
        return given / "bin" / "python"
    requirements = REPOSITORY / "benchmarks" / "environments" / f"{name}.txt"
    folder = cache_folder() / "environments" / f"{name}-{file_sha256(requirements)[:12]}"
    if not (folder / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        install = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--requirement", requirements]
        subprocess.run([str(part) for part in install], check=True)
        (folder / "ready").touch()
    return folder / "bin" / "python"


def peers(model: Any, save: Callable[[Path], None], inputs: dict[str, torch.Tensor], folder: Path, python: Path) -> list[Peer]:
    """Every peer's graph of an ordinary Hugging Face model, in ``folder``. Shapes are fixed where the peer can do that."""
    folder.mkdir(parents=True)
    model.save_pretrained(folder / "checkpoint")
    save(folder / "checkpoint")
    program = torch.onnx.export(model, kwargs=inputs, verbose=False)
    assert program is not None
    program.save(str(folder / "plain.onnx"))
    run_in(python, str(SCRIPT), str(folder / "checkpoint"), str(folder / "optimum"), str(TOKENS))
    optimum = folder / "optimum"
    return [
        Peer("torch.onnx.export, plain onnxruntime", "onnxruntime", folder / "plain.onnx"),
        Peer("torch.onnx.export, plain openvino", "openvino", folder / "plain.onnx"),
        Peer("optimum-onnx", "onnxruntime", optimum / "onnx" / "model.onnx"),
        Peer("optimum-onnx, ORTOptimizer O2", "onnxruntime", optimum / "o2" / "model_optimized.onnx"),
        Peer("optimum-intel", "openvino", optimum / "openvino" / "openvino_model.xml"),
    ]


def run_in(python: Path, *arguments: str) -> None:
    """Run a script with the Python of an environment. RuntimeError with the end of what it said when it fails."""
    done = subprocess.run([str(python), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{arguments[0]} failed: {done.stderr.strip().splitlines()[-1:]}")
