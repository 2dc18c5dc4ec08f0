"""A real process on the tiny graph: what it answers, and what is left when it, or we, are interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from onnx import TensorProto, helper, numpy_helper

from instatune_deploy.devices.process import MeasuringProcess
from instatune_deploy.devices.reference import write_reference
from instatune_deploy.devices.runs import Run
from instatune_deploy.devices.runtimes.registry import version
from instatune_deploy.errors import BadInput

from .conftest import QUICK

RUN = Run("onnxruntime", "fp32", 1)
# nobody waits for this to end
ENDLESS = QUICK.model_copy(update={"window_ms": 3_600_000.0})
HUGE = [2**22, 2**22, 4]
FOREIGN = {"torch", "transformers", "onnx", "pydantic", "click", "scipy", "psutil", "pandas", "sklearn", "sqlalchemy"}


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where scratch folders are made."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def process(scratch: Path) -> Iterator[MeasuringProcess]:
    with MeasuringProcess() as made:
        yield made


class Meanwhile:
    """The answers of a process; something happens while the first is waited for."""

    def __init__(self, process: MeasuringProcess, happens: Callable[[], object]) -> None:
        self.child = process._process
        assert self.child is not None
        assert self.child.stdout is not None
        self._answers, self._happens = self.child.stdout, happens
        self.child.stdout = self  # type: ignore[assignment]

    def readline(self) -> str:
        self._happens()
        return self._answers.readline()

    def close(self) -> None:
        self._answers.close()


def interrupt() -> None:
    raise KeyboardInterrupt


def pid(process: MeasuringProcess) -> int:
    assert process._process is not None
    return process._process.pid


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_graph_is_measured(process: MeasuringProcess, graph: bytes, inputs: dict[str, Any], runtime: str) -> None:
    run = Run(runtime, "fp32", 1)
    outcome = process.measure(graph, inputs, run, QUICK, 10.0)
    assert outcome.timing is not None
    assert 0 < outcome.timing.p50_ms <= outcome.timing.p90_ms <= outcome.timing.p99_ms
    assert (outcome.timing.nominal_ms, outcome.version) == (10.0, version(runtime))
    says = outcome.circumstances["runtime_says"]
    assert (says["precision"], says["threads"], says["provider"]) == ("fp32", 1, "cpu")


def test_one_process_for_all(process: MeasuringProcess, graph: bytes, inputs: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(graph)
    process.measure(graph, inputs, RUN, QUICK, None)
    first = pid(process)
    outcome = process.measure(tmp_path / "a.onnx", inputs, RUN, QUICK, None)
    assert outcome.timing is not None
    assert outcome.timing.nominal_ms is None
    assert pid(process) == first


def test_a_relative_path_and_a_misleading_file_in_the_current_folder(
    process: MeasuringProcess, graph: bytes, inputs: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.onnx").write_bytes(graph)
    for name in ("numpy", "onnxruntime", "instatune_deploy", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported from the current folder')")
    monkeypatch.chdir(tmp_path)
    assert process.measure(Path("a.onnx"), inputs, RUN, QUICK, None).timing is not None
    # the process is still where it was started
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "a.onnx").rename(tmp_path / "elsewhere" / "b.onnx")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert process.measure(Path("b.onnx"), inputs, RUN, QUICK, None).timing is not None


def test_the_nominal_speed(process: MeasuringProcess) -> None:
    nominal_ms, why = process.nominal_ms(RUN, QUICK)
    # a busy host says why
    assert (nominal_ms is None) == (why is not None)
    assert nominal_ms is None or nominal_ms > 0


def test_what_is_refused_is_bad_input_and_the_process_goes_on(
    process: MeasuringProcess, graph: bytes, inputs: dict[str, Any], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"no graph at all")
    with pytest.raises(BadInput, match=r"bad\.onnx: ONNX Runtime cannot load it: .") as caught:
        process.measure(bad, inputs, RUN, QUICK, None)
    assert "\n" not in caught.value.message
    first = pid(process)
    with pytest.raises(BadInput, match="the graph takes the inputs ids, mask; given were ids"):
        process.measure(graph, {"ids": inputs["ids"]}, RUN, QUICK, None)
    with pytest.raises(BadInput, match=r"OpenVINO would run \d+ threads here, not 100000"):
        process.measure(graph, inputs, Run("openvino", "fp32", 100_000), QUICK, None)
    assert process.measure(graph, inputs, RUN, QUICK, None).timing is not None
    assert pid(process) == first


def test_what_no_runtime_does_needs_no_process(process: MeasuringProcess, graph: bytes, inputs: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="onnxruntime does not run bf16 on cpu"):
        process.measure(graph, inputs, RUN._replace(precision="bf16"), QUICK, None)
    assert process._process is None


def test_a_process_that_is_killed_while_it_measures(
    process: MeasuringProcess, graph: bytes, inputs: dict[str, Any], scratch: Path
) -> None:
    process.measure(graph, inputs, RUN, QUICK, None)
    first = pid(process)
    Meanwhile(process, lambda: os.kill(first, signal.SIGKILL))
    outcome = process.measure(graph, inputs, RUN, ENDLESS, None)
    assert outcome.timing is None
    assert outcome.why == "the measuring process was killed, as the system does when memory runs out"
    assert (outcome.version, outcome.circumstances) == (version("onnxruntime"), {})
    assert process.measure(graph, inputs, RUN, QUICK, None).timing is not None
    assert pid(process) != first
    assert len(list(scratch.iterdir())) == 1


def test_a_process_that_is_killed_while_it_calibrates(process: MeasuringProcess, graph: bytes, inputs: dict[str, Any]) -> None:
    process.measure(graph, inputs, RUN, QUICK, None)
    first = pid(process)
    Meanwhile(process, lambda: os.kill(first, signal.SIGTERM))
    assert process.nominal_ms(RUN, ENDLESS) == (None, "the measuring process was ended by signal 15: it said nothing")


def test_a_process_that_is_killed_while_it_rests_costs_no_graph(
    process: MeasuringProcess, graph: bytes, inputs: dict[str, Any]
) -> None:
    process.measure(graph, inputs, RUN, QUICK, None)
    assert process._process is not None
    first = pid(process)
    process._process.kill()
    process._process.wait()
    outcome = process.measure(graph, inputs, RUN, QUICK, None)
    assert outcome.timing is not None
    assert pid(process) != first


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_a_process_that_breaks_off_says_why(process: MeasuringProcess, graph: bytes, inputs: dict[str, Any]) -> None:
    rules = QUICK.model_copy(update={"max_windows": "many"})
    outcome = process.measure(graph, inputs, RUN, rules, None)
    assert outcome.timing is None
    assert outcome.why is not None
    assert outcome.why.startswith("the measuring process ended with code 1: TypeError: ")
    assert "\n" not in outcome.why
    assert process.measure(graph, inputs, RUN, QUICK, None).timing is not None


def test_half_an_answer_is_none(process: MeasuringProcess, graph: bytes, inputs: dict[str, Any]) -> None:
    process.measure(graph, inputs, RUN, QUICK, None)
    child = process._process
    assert child is not None

    class Torn(Meanwhile):
        def readline(self) -> str:
            os.kill(self.child.pid, signal.SIGKILL)  # type: ignore[union-attr]
            return '{"outcome": {"tim'

    Torn(process, lambda: None)
    outcome = process.measure(graph, inputs, RUN, ENDLESS, None)
    assert outcome.why == "the measuring process was killed, as the system does when memory runs out"


def test_an_interrupt_ends_the_process_and_the_next_gets_its_own_answer(
    process: MeasuringProcess, graph: bytes, inputs: dict[str, Any]
) -> None:
    process.measure(graph, inputs, RUN, QUICK, None)
    child = Meanwhile(process, interrupt).child
    assert child is not None
    with pytest.raises(KeyboardInterrupt):
        process.measure(graph, inputs, RUN, ENDLESS, 1.0)
    assert child.returncode == -signal.SIGKILL
    outcome = process.measure(graph, inputs, RUN, QUICK, 2.0)
    assert outcome.timing is not None
    assert outcome.timing.nominal_ms == 2.0


def test_an_interrupt_of_the_terminal_is_for_the_parent(process: MeasuringProcess, graph: bytes, inputs: dict[str, Any]) -> None:
    """A terminal sends it to both; the process goes on until the parent ends it."""
    process.measure(graph, inputs, RUN, QUICK, None)
    first = pid(process)
    os.kill(first, signal.SIGINT)
    assert process.measure(graph, inputs, RUN, QUICK, None).timing is not None
    assert pid(process) == first


def test_a_library_that_prints_disturbs_nobody(
    process: MeasuringProcess, graph: bytes, inputs: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the first import of the runtime, through Python and past it."""
    (tmp_path / "loud").mkdir()
    (tmp_path / "loud" / "sitecustomize.py").write_text(
        "import builtins, os\n"
        "quiet = builtins.__import__\n"
        "def loud(name, *rest, **more):\n"
        "    if name == 'onnxruntime':\n"
        "        print('a remark', flush=True)\n"
        "        os.write(1, b'another remark\\n')\n"
        "    return quiet(name, *rest, **more)\n"
        "builtins.__import__ = loud\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "loud"), prepend=os.pathsep)
    assert process.measure(graph, inputs, RUN, QUICK, None).timing is not None
    assert process._folder is not None
    said = (process._folder / "errors.txt").read_text()
    assert "a remark\nanother remark\n" in said


def test_close_leaves_nothing(graph: bytes, inputs: dict[str, Any], scratch: Path) -> None:
    made = MeasuringProcess()
    made.close()  # nothing was started
    made.measure(graph, inputs, RUN, QUICK, None)
    child = made._process
    assert child is not None
    assert len(list(scratch.iterdir())) == 1
    made.close()
    assert child.returncode is not None
    assert list(scratch.iterdir()) == []
    made.close()
    # and again, should there be more to measure
    with made:
        assert made.measure(graph, inputs, RUN, QUICK, None).timing is not None
    assert list(scratch.iterdir()) == []


def test_a_parent_that_dies_leaves_no_process(graph: bytes, inputs: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "graph.onnx").write_bytes(graph)
    np.savez(tmp_path / "inputs.npz", **inputs)
    code = (
        "import os, pathlib, sys, numpy\n"
        "from instatune_deploy.config import TimingSettings\n"
        "from instatune_deploy.devices.process import MeasuringProcess\n"
        "from instatune_deploy.devices.runs import Run\n"
        "folder, rules = pathlib.Path(sys.argv[1]), TimingSettings.model_validate_json(sys.argv[2])\n"
        "inputs = dict(numpy.load(folder / 'inputs.npz'))\n"
        "made = MeasuringProcess()\n"
        "made.measure(folder / 'graph.onnx', inputs, Run('onnxruntime', 'fp32', 1), rules, None)\n"
        "print(made._process.pid, flush=True)\n"
        "os._exit(0)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path), QUICK.model_dump_json()]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    try:
        left = psutil.Process(int(done.stdout))
        # whoever adopted it may not have noticed its end
        for _ in range(600):
            if left.status() == psutil.STATUS_ZOMBIE:
                return
            time.sleep(0.1)
        left.kill()
        pytest.fail("it is still there")
    except psutil.NoSuchProcess:
        pass


@pytest.mark.parametrize(("runtime", "other"), [("onnxruntime", "openvino"), ("openvino", "onnxruntime")])
def test_nothing_is_loaded_but_numpy_and_the_runtime(
    graph: bytes, inputs: dict[str, Any], tmp_path: Path, runtime: str, other: str
) -> None:
    (tmp_path / "graph.onnx").write_bytes(graph)
    np.savez(tmp_path / "inputs.npz", **inputs)
    request = {
        "graph": str(tmp_path / "graph.onnx"),
        "inputs": str(tmp_path / "inputs.npz"),
        "run": [runtime, "fp32", 1, "cpu"],
        "rules": QUICK.model_dump(),
        "nominal_ms": None,
    }
    code = (
        "import io, json, sys\n"
        "from pathlib import Path\n"
        "from instatune_deploy.devices import serve\n"
        "said = io.StringIO()\n"
        "serve.main(io.StringIO(sys.argv[1]), said, Path(sys.argv[2]))\n"
        "loaded = sorted({name.partition('.')[0] for name in sys.modules})\n"
        "print(json.dumps({'answer': json.loads(said.getvalue()), 'loaded': loaded}))\n"
    )
    command = [sys.executable, "-c", code, json.dumps(request), str(write_reference(tmp_path))]
    done = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert done["answer"]["outcome"]["timing"] is not None
    loaded = set(done["loaded"])
    assert {"numpy", runtime} <= loaded
    assert loaded & (FOREIGN | {other}) == set()


@pytest.fixture(scope="session")
def huge() -> bytes:
    """ONNX: x (1, 1, 4) float32, made (2**22, 2**22, 4) large: more than any processor can address."""
    size = numpy_helper.from_array(np.array(HUGE), "size")
    nodes = [helper.make_node("Expand", ["x", "size"], ["wide"]), helper.make_node("Exp", ["wide"], ["y"])]
    ends = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 4])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, HUGE)]
    body = helper.make_graph(nodes, "huge", ends, outputs, [size])
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())


def test_memory_that_runs_out_is_recorded_and_the_next_is_measured(
    process: MeasuringProcess, graph: bytes, inputs: dict[str, Any], huge: bytes
) -> None:
    outcome = process.measure(huge, {"x": np.zeros((1, 1, 4), np.float32)}, RUN, QUICK, None)
    assert outcome.timing is None
    assert outcome.why is not None
    assert outcome.why.startswith("it could not be run: ")
    assert "Failed to allocate memory" in outcome.why
    assert "\n" not in outcome.why
    assert outcome.circumstances["attempts"] == 0
    assert process.measure(graph, inputs, RUN, QUICK, None).timing is not None
