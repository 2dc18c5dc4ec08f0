"""The README's Python, run as it stands on artifacts of both runtimes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from .fakes import Place

README = Path(__file__).parents[2] / "README.md"
ONE_RUNTIME = """\
name: {name}
description: One runtime of the tests.
runs:
  - runtime: {runtime}
threads: 1
sequence_length: 24
"""


def _artifact(place: Place, runtime: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An artifact for ``runtime`` from the finished super-network."""

    def write(folder: Path, name: str) -> Path:
        path = folder / f"{name}.yaml"
        path.write_text(ONE_RUNTIME.format(name=name, runtime=runtime), encoding="utf-8")
        return path

    monkeypatch.setattr(f"{Place.__module__}.write_profile", write)
    place.profiles = (f"only-{runtime}",)
    place.job().run()
    return place.output / f"only-{runtime}"


def test_an_artifact_is_read_as_the_readme_says(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    *_, first, second = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    onnx = _artifact(place, "onnxruntime", monkeypatch)
    openvino = _artifact(place, "openvino", monkeypatch)
    labels = json.loads((onnx / "manifest.json").read_text())["labels"]
    capsys.readouterr()
    names: dict[str, Any] = {}
    assert "artifacts/generic-cpu" in first
    exec(first.replace("artifacts/generic-cpu", str(onnx)), names)
    with_onnxruntime = capsys.readouterr().out.strip()
    names["folder"] = str(openvino)
    exec(second, names)
    with_openvino = capsys.readouterr().out.strip()
    assert with_onnxruntime in labels
    # without a budget both hand over the most accurate network, which is the same
    assert with_openvino == with_onnxruntime
