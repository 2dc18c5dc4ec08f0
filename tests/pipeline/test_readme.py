"""The README's commands on artifacts of both runtimes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

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

    def write(folder: Path, name: str, more: str = "") -> Path:
        path = folder / f"{name}.yaml"
        path.write_text(ONE_RUNTIME.format(name=name, runtime=runtime), encoding="utf-8")
        return path

    monkeypatch.setattr(f"{Place.__module__}.write_profile", write)
    place.profiles = (f"only-{runtime}",)
    place.job().run()
    return place.output / f"only-{runtime}"


def test_an_artifact_is_used_as_the_readme_says(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the README's command says of its text is the same in both runtimes: without a budget both hand over one network."""
    text = README.read_text(encoding="utf-8")
    commands = re.findall(r"^python artifacts/xeon-cpu/(\S+)(?: \"(.*)\")?$", text, re.MULTILINE)
    assert [script for script, _ in commands] == ["predict.py", "verify.py"]
    answers = set()
    for runtime in ("onnxruntime", "openvino"):
        artifact = _artifact(place, runtime, monkeypatch)
        labels = json.loads((artifact / "manifest.json").read_text())["labels"]
        done = subprocess.run(
            [sys.executable, str(artifact / "predict.py"), commands[0][1]], capture_output=True, text=True, check=True
        )
        label, percent, said = done.stdout.strip().replace("\t", " ", 1).split(" ", 2)
        assert label in labels
        assert said == commands[0][1]
        answers.add((label, percent))
    assert len(answers) == 1
