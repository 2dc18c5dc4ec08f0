"""The measuring script: what it measures, keeps, goes on from, and refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from instatune_deploy.devices import cpus, script
from instatune_deploy.devices.latency import Timing
from instatune_deploy.devices.plan import Plan
from instatune_deploy.devices.probe import Outcome, Probe
from instatune_deploy.devices.results import DIED
from instatune_deploy.devices.runs import Run

from .kits import TIMING, write_kit

CORES = 4


@pytest.fixture(scope="session")
def reference() -> bytes:
    """ONNX: y = x + x; x (1, 4) float32."""
    shape = [1, 4]
    node = helper.make_node("Add", ["x", "x"], ["y"])
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy"]
    body = helper.make_graph([node], "reference", ends[:1], ends[1:])
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


@dataclass
class FakeProbe:
    """Stands in for the measuring; a number of threads has its answer, or an error to raise."""

    answers: dict[int, Any] = field(default_factory=dict)
    measured: list[int] = field(default_factory=list)
    nominal: Any = (2.0, None)
    calibrated: list[int] = field(default_factory=list)

    def measure(self, probe: Any, graph: Path, inputs: Any, run: Run, rules: Any, nominal_ms: float) -> Outcome:
        assert graph.is_file()
        assert rules.window_ms == 1
        self.measured.append(run.threads)
        answer = self.answers.get(run.threads)
        if isinstance(answer, BaseException):
            raise answer
        return Outcome(Timing.from_json(TIMING), answer, "1.23.2", {"started": "2026-01-01T00:00:00.000+00:00"})

    def nominal_ms(self, probe: Any, run: Run, rules: Any) -> tuple[float | None, str | None]:
        self.calibrated.append(run.threads)
        if isinstance(self.nominal, BaseException):
            raise self.nominal
        answer: tuple[float | None, str | None] = self.nominal
        return answer


@pytest.fixture
def kit(tmp_path: Path, graph: bytes, inputs: dict[str, Any], reference: bytes) -> Path:
    write_kit(tmp_path / "kit", graph, inputs, reference)
    return tmp_path / "kit"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeProbe:
    made = FakeProbe()
    monkeypatch.setattr(Probe, "measure", lambda *arguments: made.measure(*arguments))
    monkeypatch.setattr(Probe, "nominal_ms", lambda *arguments: made.nominal_ms(*arguments))
    facts = {**script.host_facts(), "cores": CORES}
    monkeypatch.setattr(script, "host_facts", lambda: facts)
    return made


@pytest.fixture
def run(kit: Path) -> Callable[..., int]:
    return lambda *options: script.main(["--folder", str(kit), *options])


def kept(kit: Path) -> dict[int, Any]:
    """Results by threads."""
    return {item["deployment"]["threads"]: item for item in json.loads((kit / "results.json").read_text())["items"]}


def test_really_measured(kit: Path, run: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpus, "too_busy", lambda *arguments: None)
    assert run("--only", "1") == 0
    timing = kept(kit)[1]["timing"]
    assert 0 < timing["p50_ms"] <= timing["p90_ms"] <= timing["max_ms"]
    assert timing["nominal_ms"] > 0


def test_all_of_the_plan(kit: Path, run: Callable[..., int], fake: FakeProbe, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    assert fake.measured == fake.calibrated == [1, 2, CORES]  # "all" is the device's own number
    plan = Plan.from_text((kit / "plan.json").read_text(), "plan.json")
    value = json.loads((kit / "results.json").read_text())
    assert (value["plan"], value["device"], value["rules"]) == (plan.digest, "far-cpu", plan.rules)
    assert value["references"][0] == {
        "run": ["onnxruntime", "fp32", 1, "cpu"],
        "version": onnxruntime.__version__,
        "nominal_ms": 2.0,
        "why": None,
    }
    assert value["items"][0] == {
        "graph_hash": "a" * 64,
        "sha256": plan.items[0].sha256,
        "size_bytes": plan.items[0].size_bytes,
        "deployment": plan.items[0].deployment,
        "timing": TIMING,
        "why": None,
        "version": "1.23.2",
        "circumstances": {"started": "2026-01-01T00:00:00.000+00:00"},
    }
    assert "3 of 3: graphs/0001.onnx, onnxruntime fp32, 4 threads: p50 5.00 ms, p90 6.00 ms" in capsys.readouterr().out
    assert sorted(path.name for path in kit.iterdir() if "results" in path.name) == ["results.json"]


def test_images_of_another_size_come_from_a_file_of_their_own(
    tmp_path: Path, graph: bytes, inputs: dict[str, Any], reference: bytes, fake: FakeProbe
) -> None:
    kit = tmp_path / "sizes"
    write_kit(kit, graph, inputs, reference, {1: 42, 2: 56})
    read: list[str] = []
    load = np.load
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np, "load", lambda path, **options: read.append(Path(path).name) or load(path, **options))
        assert script.main(["--folder", str(kit)]) == 0
    assert read == ["inputs-42.npz", "inputs-56.npz", "inputs.npz"]
    (kit / "inputs-56.npz").unlink()
    assert script.main(["--folder", str(kit), "--again"]) == 2


def test_two_items_that_are_one_on_this_device(kit: Path, run: Callable[..., int], fake: FakeProbe) -> None:
    script.host_facts()["cores"] = 2
    assert run() == 0
    assert fake.measured == [1, 2]


def test_stopped_and_continued(kit: Path, run: Callable[..., int], fake: FakeProbe, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers[2] = KeyboardInterrupt()
    assert run() == 130
    assert capsys.readouterr().err.strip().splitlines() == [
        "Stopped. What was measured is kept: the same command goes on from there."
    ]
    assert list(kept(kit)) == [1]
    fake.answers.clear()
    fake.measured.clear()
    fake.calibrated.clear()
    assert run() == 0
    assert (fake.measured, fake.calibrated) == ([2, CORES], [CORES])
    assert run() == 0
    assert fake.measured == [2, CORES]
    assert run("--again", "--only", "2") == 0
    assert fake.measured == [2, CORES, 1, 2]


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("bad\nlines"), ValueError("refused")])
def test_an_error_costs_one_item(kit: Path, run: Callable[..., int], fake: FakeProbe, error: Exception) -> None:
    fake.answers[2] = error
    assert run() == 0
    said = {MemoryError: "out of memory", RuntimeError: "bad", ValueError: "refused"}[type(error)]
    assert (kept(kit)[2]["timing"], kept(kit)[2]["why"]) == (None, f"it could not be run: {said}")
    assert kept(kit)[CORES]["timing"] == TIMING


def test_noise(kit: Path, run: Callable[..., int], fake: FakeProbe, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers = {1: "others", 2: "others"}
    assert run() == 5
    assert capsys.readouterr().err.startswith("Error: more than half could not be believed")
    # those are tried again, and nothing else
    fake.answers, fake.measured = {1: "others"}, []
    assert run() == 0
    assert fake.measured == [1, 2]
    assert kept(kit)[2]["why"] is None


def test_a_device_whose_speed_cannot_be_said(kit: Path, run: Callable[..., int], fake: FakeProbe) -> None:
    fake.nominal = (None, "others")
    assert run() == 5
    assert fake.measured == []
    assert kept(kit)[1]["why"] == "the device's own speed cannot be said: others"
    fake.nominal = (2.0, None)
    assert run() == 0
    assert fake.measured == [1, 2, CORES]


def test_nothing_can_be_run(kit: Path, run: Callable[..., int], fake: FakeProbe, capsys: pytest.CaptureFixture[str]) -> None:
    fake.nominal = ValueError("no such provider")
    assert run() == 2
    assert capsys.readouterr().err == ("Error: nothing could be measured: this device cannot run it so: no such provider\n")


def test_an_item_that_the_script_dies_of(kit: Path, run: Callable[..., int], fake: FakeProbe, monkeypatch: Any) -> None:
    """A kill leaves the note beside the results: tried twice, then recorded and passed over."""
    from instatune_deploy.devices.results import Results

    fake.answers[1] = KeyboardInterrupt()
    with monkeypatch.context() as patch:
        patch.setattr(Results, "end", lambda results: None)  # who is killed cleans nothing up
        assert (run(), run()) == (130, 130)
    fake.measured.clear()
    assert run() == 0
    assert fake.measured == [2, CORES]
    assert (kept(kit)[1]["timing"], kept(kit)[1]["why"]) == (None, DIED)
    assert run() == 0
    assert fake.measured == [2, CORES]


def spoil_graph(kit: Path) -> None:
    (kit / "graphs" / "0001.onnx").write_bytes(b"another")


def spoil_plan(kit: Path) -> None:
    text = (kit / "plan.json").read_text()
    (kit / "plan.json").write_text(text[: len(text) // 2])


def other_results(kit: Path) -> None:
    (kit / "results.json").write_text(json.dumps({"schema_version": 1, "plan": "f" * 64}))


def no_results(kit: Path) -> None:
    (kit / "results.json").write_text("[]")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoil_graph, "graphs/0001.onnx: its SHA-256 is not the plan's"),
        (lambda kit: (kit / "inputs.npz").unlink(), "inputs.npz: cannot be read (No such file or directory)"),
        (spoil_plan, "plan.json: not whole"),
        (lambda kit: (kit / "plan.json").write_text("{}"), "plan.json: not a plan of schema 1"),
        (other_results, "results.json: it belongs to another kit; move it away, or write elsewhere with --output"),
        (no_results, "results.json: not the results of a kit"),
    ],
)
def test_refused(
    kit: Path, run: Callable[..., int], fake: FakeProbe, capsys: Any, spoil: Callable[[Path], object], said: str
) -> None:
    spoil(kit)
    assert run() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Error: ")
    assert said in line
    assert fake.measured == []


def test_results_of_another_machine(kit: Path, run: Callable[..., int], fake: FakeProbe, capsys: Any) -> None:
    assert run("--only", "1") == 0
    script.host_facts()["cores"] = 2
    assert run() == 2
    assert "it was measured on another machine" in capsys.readouterr().err


def test_list_and_output(kit: Path, run: Callable[..., int], fake: FakeProbe, capsys: Any, tmp_path: Path) -> None:
    assert run("--only", "1", "--output", str(tmp_path / "elsewhere.json")) == 0
    capsys.readouterr()
    assert run("--list", "--output", str(tmp_path / "elsewhere.json")) == 0
    assert capsys.readouterr().out.splitlines() == [
        "   1  graphs/0001.onnx  onnxruntime fp32, 1 thread: p50 5.00 ms, p90 6.00 ms",
        "   2  graphs/0001.onnx  onnxruntime fp32, 2 threads: to be measured",
        "   3  graphs/0001.onnx  onnxruntime fp32, 4 threads: to be measured",
    ]
    assert not (kit / "results.json").exists()


def test_options(kit: Path, run: Callable[..., int], fake: FakeProbe, capsys: Any) -> None:
    with pytest.raises(SystemExit) as ended:
        run("--only", "0")
    assert ended.value.code == 2
    assert run("--runtime", "openvino") == 2
    assert "nothing of the plan is run by it" in capsys.readouterr().err
    assert fake.measured == []
