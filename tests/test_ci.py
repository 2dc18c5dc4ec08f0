"""What is shipped for CI systems: of the form that they read, and its commands are the command line's."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from instatune_deploy.cli import main
from instatune_deploy.pipeline.targets import load_pipeline_or_matrix

CI = Path(__file__).parents[1] / "pipelines" / "ci"
SCHEMAS = {"github.yml": ["vendor.github-workflows"], "gitlab.yml": ["vendor.gitlab-ci", "--data-transform", "gitlab-ci"]}
STUB = """\
#!/bin/sh
echo "$@" >> "$CALLS"
mkdir -p runs artifacts && echo "| target |" > artifacts/summary.md
"""
FREEZE = """\
#!/bin/sh
printf 'torch==2.13.0+cpu\\nnumpy==2.4.1\\n-e git+https://x/y\\nz @ file:///tmp/z\\n'
"""


def steps(name: str) -> list[str]:
    """The shell commands of a file, in their order."""
    value: dict[str, Any] = yaml.safe_load((CI / name).read_text(encoding="utf-8"))
    if name == "github.yml":
        return [step["run"] for job in value["jobs"].values() for step in job["steps"] if "run" in step]
    return [command for job in ("finetune", "build") for command in value[job]["script"]]


@pytest.mark.parametrize("name", SCHEMAS)
def test_its_form(name: str) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", *SCHEMAS[name], str(CI / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", SCHEMAS)
def test_its_commands(name: str, tmp_path: Path) -> None:
    """Run as they stand, with a stub that writes down how it was called; then each call is one that the command line takes."""
    (tmp_path / "bin").mkdir()
    for stub, text in (("instatune-deploy", STUB), ("python", FREEZE)):
        (tmp_path / "bin" / stub).write_text(text, encoding="utf-8")
        (tmp_path / "bin" / stub).chmod(0o755)
    environment = {
        "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin",
        "CALLS": str(tmp_path / "calls"),
        "MATRIX": "pipelines/ci.yaml",
        "DEVICE": "generic-cpu",
        "GITHUB_STEP_SUMMARY": str(tmp_path / "page"),
    }
    commands = [command.replace("${{ matrix.device }}", "generic-cpu") for command in steps(name)]
    for command in commands:
        if "pip install" not in command:
            subprocess.run(["bash", "-e", "-c", command], cwd=tmp_path, env=environment, check=True)
    if name == "github.yml":
        assert (tmp_path / "page").read_text() == "| target |\n"
    # builds of the same versions for another processor are others, and what is no version cannot be asked for
    assert (tmp_path / "runs" / "constraints.txt").read_text() == "torch==2.13.0\nnumpy==2.4.1\n"
    finetune, build = (shlex.split(line) for line in (tmp_path / "calls").read_text().splitlines())
    assert finetune == ["finetune", "--pipeline", "pipelines/ci.yaml"]
    assert build[:4] == ["--pipeline", "pipelines/ci.yaml", "--device", "generic-cpu"]
    for call in (finetune, build):
        # `--help` behind what is given: all of it is parsed, and nothing is done
        assert CliRunner().invoke(main, [*call, "--help"]).exit_code == 0


def test_its_devices_are_those_of_the_matrix() -> None:
    _, matrix = load_pipeline_or_matrix("ci")
    assert matrix is not None
    devices = list(dict.fromkeys(target.device for target in matrix.targets))
    github: Any = yaml.safe_load((CI / "github.yml").read_text(encoding="utf-8"))
    gitlab: Any = yaml.safe_load((CI / "gitlab.yml").read_text(encoding="utf-8"))
    assert github["jobs"]["build"]["strategy"]["matrix"]["device"] == devices
    assert gitlab["build"]["parallel"]["matrix"] == [{"DEVICE": devices}]
