"""A kit of the tiny checkpoint: made, run where nothing of ours is installed, imported, and found by the bench's key."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from click.testing import CliRunner, Result

from instatune_deploy.cli import main
from instatune_deploy.devices.host import this_host
from instatune_deploy.devices.measure import Laboratory, key_of
from instatune_deploy.devices.plan import ALL_CORES, Plan
from instatune_deploy.devices.profile import load_profile, resolve
from instatune_deploy.devices.runs import Run
from instatune_deploy.devices.store import open_store
from instatune_deploy.pipeline.bench import Bench
from instatune_deploy.pipeline.inputs import load_inputs, load_pipeline
from instatune_deploy.pipeline.supernet import load_supernet, narrow_weights
from instatune_deploy.supernet.architecture import Architecture

from .fakes import write_pipeline

PROFILE = """\
name: far-cpu
description: A device that this host is not.
requires:
  machine: [s390x]
  cpu_flags: [no-such-flag]
runs:
  - runtime: onnxruntime
  - runtime: openvino
    precision: bf16
  - runtime: onnxruntime
    precision: int8
threads: [1, all]
sequence_length: 24
# short, and content with any three windows
timing: {window_ms: 1, min_runs_per_window: 3, max_warmup_windows: 2, tolerance: 0.99, reference_ms: 1, max_drift: 50}
"""
NEIGHBOURS = ["numpy", "numpy.libs", "onnxruntime"]
"""All that the script's Python finds beside its standard library."""


@dataclass(frozen=True)
class MadeKit:
    """The folder in which the command ran, and where the kit was unpacked."""

    folder: Path
    said: str

    @property
    def work(self) -> Path:
        return self.folder / "runs"

    @property
    def device(self) -> Path:
        return self.folder / "device"

    @property
    def plan(self) -> Plan:
        return Plan.from_text((self.device / "plan.json").read_text(), "plan.json")


def command(folder: Path, *more: str) -> Result:
    where = ["--pipeline", str(folder / "tiny.yaml"), "--work", str(folder / "runs"), "--output", str(folder / "kits")]
    return CliRunner().invoke(main, ["kit", "--device", str(folder / "far-cpu.yaml"), *where, *more])


@pytest.fixture(scope="module")
def made(tiny_checkpoint: Path, tiny_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> MadeKit:
    folder = tmp_path_factory.mktemp("kit")
    write_pipeline(folder, tiny_checkpoint, tiny_csv, steps=2)
    (folder / "far-cpu.yaml").write_text(PROFILE, encoding="utf-8")
    result = command(folder, "--architectures", "3")
    assert result.exit_code == 0, result.stderr
    with zipfile.ZipFile(folder / "kits" / "far-cpu.zip") as archive:
        archive.extractall(folder / "device")
    return MadeKit(folder, result.stdout)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a device has installed: NumPy and ONNX Runtime."""
    folder = tmp_path_factory.mktemp("bare")
    installed = Path(onnxruntime.__file__).parent.parent
    for name in NEIGHBOURS:
        if (installed / name).exists():
            (folder / name).symlink_to(installed / name)
    return folder


UNDISTURBED = """
import runpy, sys
sys.argv = sys.argv[1:]
sys.path.insert(0, sys.argv[0])
from instatune_deploy.devices import cpus
cpus.too_busy = lambda *arguments: None
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs the script, but lets it believe that it has the machine for itself: what is tested is not this machine's rest."""


def measure(made: MadeKit, bare: Path, *options: str) -> subprocess.CompletedProcess[str]:
    environment = {**{key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}, "PYTHONPATH": str(bare)}
    command = [sys.executable, "-S", "-c", UNDISTURBED, str(made.device / "measure.pyz"), *options]
    return subprocess.run(command, cwd=made.device, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def measured(made: MadeKit, bare: Path) -> Path:
    done = measure(made, bare, "--runtime", "onnxruntime")
    assert done.returncode == 0, done.stdout + done.stderr
    return made.device / "results.json"


def test_what_is_in_it(made: MadeKit) -> None:
    plan = made.plan
    graphs = {item.graph for item in plan.items}
    with zipfile.ZipFile(made.folder / "kits" / "far-cpu.zip") as archive:
        names = archive.namelist()
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    others = {"measure.pyz", "plan.json", "inputs.npz", "reference.onnx", "README.txt", "graphs/weights.bin"}
    assert sorted(names) == sorted(graphs | others)
    # three architectures, each plain for OpenVINO, fused and quantised for ONNX Runtime, on one thread and on all
    assert (len(graphs), len(plan.items)) == (9, 18)
    assert {item.run.threads for item in plan.items} == {1, ALL_CORES}
    assert plan.packages == ["numpy", "onnxruntime", "openvino"]
    for item in plan.items:
        assert hashlib.sha256((made.device / item.graph).read_bytes()).hexdigest() == item.sha256
    assert made.said.splitlines()[0].startswith(f"kit: {made.folder / 'kits' / 'far-cpu.zip'}, ")
    assert "18 measurements (9 graphs, 6 ways of running them)" in made.said
    readme = (made.device / "README.txt").read_text()
    assert "pip install numpy onnxruntime openvino" in readme
    assert "Measure 9 graphs as the hardware profile 'far-cpu' says." in readme


def test_the_full_and_the_smallest_network_are_in_it(made: MadeKit) -> None:
    architectures = {Architecture.from_json(item.deployment["architecture"]) for item in made.plan.items}
    assert len(architectures) == 3
    assert Architecture((0, 1, 2, 3), (4, 4, 4, 4), (64, 64, 64, 64)) in architectures
    depths = {architecture.depth for architecture in architectures}
    assert min(depths) < 4


def test_graphs_compute_what_they_are_called(made: MadeKit) -> None:
    """The plain graph and the fused one of the same architecture agree, on the inputs of the kit; int8 nearly."""
    with np.load(made.device / "inputs.npz") as arrays:
        inputs = {name: arrays[name] for name in arrays.files}
    assert {values.shape for values in inputs.values()} == {(1, 24)}
    largest = max(made.plan.items, key=lambda item: item.deployment["architecture"]["mlp_widths"])
    same = {item.run: item for item in made.plan.items if item.deployment["architecture"] == largest.deployment["architecture"]}
    outputs = [
        onnxruntime.InferenceSession(made.device / same[run].graph).run(None, inputs)[0]
        for run in (Run("openvino", "bf16", 1), Run("onnxruntime", "fp32", 1), Run("onnxruntime", "int8", 1))
    ]
    np.testing.assert_allclose(outputs[1], outputs[0], atol=1e-4)
    np.testing.assert_allclose(outputs[2], outputs[0], atol=0.2)
    assert np.abs(outputs[2] - outputs[0]).max() > 0


def test_the_same_kit_again_is_the_same_file(made: MadeKit) -> None:
    before = (made.folder / "kits" / "far-cpu.zip").read_bytes()
    result = command(made.folder, "--architectures", "3")
    assert result.exit_code == 0, result.stderr
    assert "fine-tuned before" in result.stderr
    assert (made.folder / "kits" / "far-cpu.zip").read_bytes() == before


def test_measured_where_nothing_of_ours_is_installed(made: MadeKit, bare: Path, measured: Path) -> None:
    for name in ("instatune_deploy", "torch", "pydantic", "click", "psutil", "onnx"):
        code = f"import importlib.util as u, sys; sys.exit(u.find_spec('{name}') is not None)"
        found = subprocess.run([sys.executable, "-S", "-c", code], env={"PYTHONPATH": str(bare)}, cwd="/")
        assert found.returncode == 0, name
    results = json.loads(measured.read_text())
    cores = this_host().cores
    assert {item["deployment"]["threads"] for item in results["items"]} == {1, cores}
    assert len(results["items"]) == 12 if cores > 1 else 6
    assert all(item["timing"] is not None for item in results["items"])
    assert {item["version"] for item in results["items"]} == {onnxruntime.__version__}


def test_imported_under_the_key_that_the_bench_looks_for(made: MadeKit, measured: Path, tmp_path: Path) -> None:
    store = str(tmp_path / "store.sqlite")
    imported = CliRunner().invoke(main, ["measurements", "import", str(measured), "--work", str(made.work), "--store", store])
    assert imported.exit_code == 0, imported.stderr
    results = json.loads(measured.read_text())
    assert imported.stdout.startswith(f"{len(results['items'])} new measurements of far-cpu (")
    # as a profile that this host serves would have it
    profile = load_profile(str(made.folder / "far-cpu.yaml"))
    served = profile.model_copy(update={"requires": type(profile.requires)(), "runs": [profile.runs[0], profile.runs[2]]})
    device = replace(resolve(served, this_host()), sequence_length=24)
    with open_store(tmp_path, store) as opened:
        supernet = load_supernet(next((made.work / "supernets").iterdir()))
        bench = Bench(load_inputs(load_pipeline(str(made.folder / "tiny.yaml"))), supernet, device, Laboratory(opened))
        for item in results["items"]:
            run = Run(*(item["deployment"][name] for name in Run._fields))
            deployment = device.deployment(Architecture.from_json(item["deployment"]["architecture"]), run)
            graph_hash = item["graph_hash"]
            if run.precision == "fp32" or not narrow_weights(device.host):  # the kit's host is not known to need them
                assert bench.graph_hash(deployment.architecture, run) == graph_hash
            found = opened.find(key_of(deployment, device, graph_hash))
            assert (found is not None) == (item["why"] is None)
            if found is not None:
                assert found.timing is not None
                assert found.timing.p90_ms == item["timing"]["p90_ms"]
                assert found.circumstances["kit"] == results["plan"]


def test_changed_graphs_are_refused(made: MadeKit, bare: Path, tmp_path: Path) -> None:
    shutil.copytree(made.device, tmp_path / "device")
    copy = MadeKit(tmp_path, "")
    weights = bytearray((copy.device / "graphs" / "weights.bin").read_bytes())
    weights[0] ^= 1
    (copy.device / "graphs" / "weights.bin").write_bytes(weights)
    done = measure(copy, bare, "--runtime", "onnxruntime", "--again")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "Error: graphs/weights.bin: its SHA-256 is not the plan's: the file was changed or cut short; unpack the kit again"
    ]


def test_a_runtime_that_is_missing(made: MadeKit, bare: Path) -> None:
    """By the script as it is."""
    command = [sys.executable, "-S", "measure.pyz", "--output", "all.json"]
    done = subprocess.run(command, cwd=made.device, env={"PYTHONPATH": str(bare)}, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "Error: openvino is not installed: pip install openvino; --runtime NAME measures only what another runtime runs"
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--architectures", "1"], "Invalid value for '--architectures': 1 is not in the range x>=2."),
        (["--device", "no-such"], "unknown hardware profile 'no-such'"),
    ],
)
def test_bad_input(made: MadeKit, options: list[str], said: str) -> None:
    result = command(made.folder, *options)
    assert result.exit_code == 2
    assert "Traceback" not in result.stderr
    assert said in result.stderr.splitlines()[-1]
