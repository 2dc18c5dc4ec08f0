"""What every runtime must do, and what each does differently."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import weakref
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
import pytest
from onnx import TensorProto, helper

from instatune_deploy.devices.host import this_host
from instatune_deploy.devices.runtimes import onnxruntime as onnxruntime_file
from instatune_deploy.devices.runtimes import openvino as openvino_file
from instatune_deploy.devices.runtimes.base import Refused, RunFailed, Session, cannot_load, check_inputs
from instatune_deploy.devices.runtimes.openvino import HINTS, OpenVinoSession
from instatune_deploy.devices.runtimes.registry import CPU_FLAGS, PRECISIONS, open_session
from instatune_deploy.errors import BadInput

HAS_BF16 = not this_host().cpu_flags.isdisjoint(CPU_FLAGS["bf16"])


@pytest.fixture(params=list(PRECISIONS))
def runtime(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def session(graph: bytes, runtime: str) -> Iterator[Session]:
    with closing(open_session(graph, runtime, "fp32", 1)) as opened:
        yield opened


def test_names_and_shapes(session: Session) -> None:
    assert session.input_names == ("ids", "mask")
    assert session.input_shapes == {"ids": (1, 4), "mask": (1, 4, 1)}


def test_run_computes_what_numpy_does(session: Session, inputs: dict[str, Any], logits: Any) -> None:
    outputs = session.run(inputs)
    assert list(outputs) == ["logits"]
    np.testing.assert_allclose(outputs["logits"], logits, rtol=1e-5, atol=1e-6)


def test_outputs_of_a_run_are_the_callers_own(session: Session, inputs: dict[str, Any]) -> None:
    first = session.run(inputs)["logits"]
    kept = first.copy()
    session.run({**inputs, "mask": inputs["mask"] * 2})
    np.testing.assert_array_equal(first, kept)


def test_bind_runs_again_and_again(session: Session, inputs: dict[str, Any]) -> None:
    run_once = session.bind(inputs)
    for _ in range(3):
        run_once()


def test_what_is_bound_lives_as_long_as_the_function(session: Session, inputs: dict[str, Any]) -> None:
    """The memory is used in place: freed, it would be whatever comes to lie there."""
    given = {name: values.copy() for name, values in inputs.items()}
    alive = [weakref.ref(values) for values in given.values()]
    run_once = session.bind(given)
    del given
    gc.collect()
    assert all(item() is not None for item in alive)
    run_once()
    del run_once
    gc.collect()
    assert all(item() is None for item in alive)


def test_bind_takes_arrays_that_are_not_contiguous_or_read_only(session: Session, inputs: dict[str, Any]) -> None:
    mask = np.asfortranarray(np.tile(inputs["mask"], (1, 1, 2)))[:, :, :1]
    ids = inputs["ids"].copy()
    ids.flags.writeable = False
    session.bind({"ids": ids, "mask": mask})()
    assert session.run({"ids": ids, "mask": mask})["logits"].shape == (1, 4, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"ids": np.zeros((1, 5), np.int64)},
            r"input ids: the graph takes int64 of shape \(1, 4\); given was int64 of shape \(1, 5\)",
        ),
        ({"ids": np.zeros((1, 4), np.int32)}, "given was int32"),
        ({"ids": np.zeros(4, np.int64)}, r"given was int64 of shape \(4,\)"),
        ({"extra": np.zeros(1)}, "the graph takes the inputs ids, mask; given were ids, mask, extra"),
    ],
)
def test_wrong_inputs(session: Session, inputs: dict[str, Any], change: dict[str, Any], message: str) -> None:
    for call in (session.run, session.bind):
        with pytest.raises(Refused, match=message):
            call({**inputs, **change})


def test_describe_says_precision_and_threads(session: Session) -> None:
    said = session.describe()
    assert (said["precision"], said["threads"], said["provider"]) == ("fp32", 1, "cpu")
    assert said["version"]
    assert json.loads(json.dumps(said)) == said


def test_from_a_path(graph: bytes, runtime: str, tmp_path: Path, inputs: dict[str, Any], logits: Any) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(graph)
    with closing(open_session(path, runtime, "fp32", 1)) as opened:
        np.testing.assert_allclose(opened.run(inputs)["logits"], logits, rtol=1e-5, atol=1e-6)


def test_open_sizes_are_none_and_taken_as_given(runtime: str) -> None:
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", 2]) for name in ("x", "y")]
    body = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "open", info[:1], info[1:])
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    with closing(open_session(model.SerializeToString(), runtime, "fp32", 1)) as opened:
        assert opened.input_shapes == {"x": (None, 2)}
        assert opened.run({"x": np.ones((3, 2), np.float32)})["y"].tolist() == [[-1, -1]] * 3


@pytest.mark.parametrize("damage", [b"", b"no graph at all", None])
def test_graph_that_cannot_be_loaded(graph: bytes, runtime: str, damage: bytes | None, tmp_path: Path) -> None:
    damaged = graph[: len(graph) // 2] if damage is None else damage
    with pytest.raises(BadInput, match=r"the graph: .* cannot load it: .") as caught:
        open_session(damaged, runtime, "fp32", 1)
    assert "\n" not in caught.value.message
    path = tmp_path / "model.onnx"
    path.write_bytes(damaged)
    with pytest.raises(BadInput, match=r"model\.onnx: .* cannot load it"):
        open_session(path, runtime, "fp32", 1)


def test_missing_file(runtime: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"gone\.onnx: .* cannot load it"):
        open_session(tmp_path / "gone.onnx", runtime, "fp32", 1)


def test_openvino_reads_its_own_format(graph: bytes, tmp_path: Path, inputs: dict[str, Any], logits: Any) -> None:
    model = openvino.Core().read_model(graph)
    openvino.save_model(model, tmp_path / "model.xml", compress_to_fp16=False)
    with closing(open_session(tmp_path / "model.xml", "openvino", "fp32", 1)) as opened:
        outputs = opened.run(inputs)
    assert list(outputs) == ["logits"]
    np.testing.assert_allclose(outputs["logits"], logits, rtol=1e-5, atol=1e-6)


def test_openvino_says_how_many_threads_it_would_run(graph: bytes) -> None:
    with pytest.raises(BadInput, match=r"would run \d+ threads here, not 100000; set 'threads: \d+' in the hardware profile"):
        open_session(graph, "openvino", "fp32", 100_000)


def test_openvino_that_falls_back_is_noticed(graph: bytes) -> None:
    with closing(OpenVinoSession(graph, "fp32", 1)) as opened:
        opened._precision = "bf16"  # as if it had been asked for
        with pytest.raises(Refused, match="does not run bf16 on this CPU; it would run f32"):
            opened._check(HINTS["bf16"])


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_onnxruntime_that_falls_back_is_noticed(graph: bytes) -> None:
    with pytest.raises(BadInput, match="ONNX Runtime does not run cuda on this host; it would run CPUExecutionProvider"):
        open_session(graph, "onnxruntime", "fp32", 1, "cuda")


SHARING = """
import json, sys, threading
from pathlib import Path
import numpy as np
from instatune_deploy.devices.runtimes import onnxruntime as ort

folder = Path(sys.argv[1])
with np.load(folder / "inputs.npz") as given:
    inputs = dict(given)


def count():
    return len(list(Path("/proc/self/task").iterdir())) if Path("/proc/self/task").exists() else None


def opened(threads):
    return ort.open_session(folder / "graph.onnx", "fp32", threads, "cpu")


early = opened(1) if sys.argv[2] == "late" else None
said = [ort.share_threads(2), ort.share_threads(3), ort.share_threads(2)]
counts, sessions = [], []
for _ in range(3):
    sessions.append(opened(2))
    sessions[-1].bind(inputs)()
    counts.append(count())
try:
    refused = opened(3)
except ort.Refused as error:
    refused = str(error)
sessions += [early] if early else []
outputs = [session.run(inputs)["logits"].tolist() for session in sessions]
pools = [session.describe()["thread_pool"] for session in sessions]
print(json.dumps({"said": said, "counts": counts, "outputs": outputs, "pools": pools, "refused": refused}))
"""


@pytest.mark.parametrize("when", ["early", "late"])
def test_onnxruntime_shares_one_pool_a_process(
    graph: bytes, inputs: dict[str, Any], logits: Any, tmp_path: Path, when: str
) -> None:
    (tmp_path / "graph.onnx").write_bytes(graph)
    np.savez(tmp_path / "inputs.npz", **inputs)
    done = subprocess.run([sys.executable, "-c", SHARING, str(tmp_path), when], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for output in found["outputs"]:
        np.testing.assert_allclose(output, logits, rtol=1e-5, atol=1e-6)
    assert found["said"] == [True, False, True]
    # a session that was there before keeps its own
    assert found["pools"] == ["of the process"] * 3 + ["of the session"] * (when == "late")
    assert found["refused"] == "ONNX Runtime runs 2 threads in this process by now, and no other number such as 3"
    assert len(set(found["counts"])) == 1  # no thread more for the second and third session


def test_openvino_is_in_nobodys_way() -> None:
    assert openvino_file.share_threads(1)
    assert openvino_file.share_threads(2)


def test_memory_that_runs_out_is_no_fault_of_the_graph(tmp_path: Path) -> None:
    """As the runtimes said it under a limit of memory."""
    path = tmp_path / "a.onnx"
    for error in (
        RuntimeError("[ONNXRuntimeError] : 1 : FAIL : Load model from a.onnx failed:std::bad_alloc"),
        RuntimeError("Exception from src/inference/src/cpp/core.cpp:84:\nLoading input model\nstd::bad_alloc\n\n"),
        RuntimeError("Check 'ptr' failed at src/cpu_memory.cpp:257:\nFailed to allocate 3276800000 bytes of memory"),
        RuntimeError("CUDA failure 2: out of memory ; GPU=0"),
    ):
        made = cannot_load(path, "A Runtime", "its reason", error)
        assert isinstance(made, RunFailed)
        assert str(made) == f"{path}: out of memory while A Runtime loaded it"
    made = cannot_load(b"", "A Runtime", "its reason", RuntimeError("INVALID_PROTOBUF"))
    assert isinstance(made, Refused)
    assert str(made) == "the graph: A Runtime cannot load it: its reason"


def test_inputs_are_used_in_place_where_they_can_be() -> None:
    good, read_only = np.zeros((2, 3), np.float32), np.zeros((2, 3), np.float32)
    read_only.flags.writeable = False
    wanted = {name: ((None, 3), np.dtype(np.float32)) for name in ("a", "b", "c")}
    # in the graph's order, whatever the caller's
    checked = check_inputs(wanted, {"c": np.zeros((3, 2), np.float32).T, "b": read_only, "a": good})
    assert list(checked) == ["a", "b", "c"]
    assert checked["a"] is good
    assert checked["b"] is not read_only
    assert all(array.flags.c_contiguous and array.flags.writeable for array in checked.values())
    with pytest.raises(Refused, match=r"input a: the graph takes float32 of shape \(any, 3\); given was float32 of shape \(3,\)"):
        check_inputs(wanted, dict.fromkeys("abc", np.zeros(3, np.float32)))
    with pytest.raises(Refused, match="given were none"):
        check_inputs(wanted, {})


def test_a_graph_of_a_type_that_is_not_supported() -> None:
    info = [helper.make_tensor_value_info(name, TensorProto.DOUBLE, [1]) for name in ("x", "y")]
    body = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "double", info[:1], info[1:])
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    with pytest.raises(BadInput, match=r"input x of the graph is a tensor\(double\); supported are tensor\(float\), "):
        open_session(model.SerializeToString(), "onnxruntime", "fp32", 1)


def test_providers_of_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one cannot compute, the next does; the CPU last. fp32 is fp32, not TF32."""
    preloaded = []
    monkeypatch.setattr(onnxruntime_file.onnxruntime, "preload_dlls", lambda: preloaded.append(True))
    assert onnxruntime_file._providers("cpu", "fp32") == ["CPUExecutionProvider"]
    assert preloaded == []
    cuda = ("CUDAExecutionProvider", {"use_tf32": "0"})
    assert onnxruntime_file._providers("cuda", "fp16") == [cuda, "CPUExecutionProvider"]
    assert preloaded == [True]
    for precision in ("fp32", "fp16"):
        assert onnxruntime_file._providers("tensorrt", precision) == [
            ("TensorrtExecutionProvider", {"trt_fp16_enable": precision == "fp16"}),
            cuda,
            "CPUExecutionProvider",
        ]


@pytest.mark.skipif(not HAS_BF16, reason="this CPU does not compute in bf16")
def test_openvino_bf16_is_really_used() -> None:
    # 1 + 2**-9 has more bits than bf16 keeps (8): it becomes 1, so the sum over 64 of them is 64 and not 64.125
    size = 64
    weights = onnx.numpy_helper.from_array(np.ones((size, size), np.float32), "w")
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [size, size]) for name in ("x", "y"))
    body = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "sum", [x], [y], [weights])
    graph = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
    inputs = {"x": np.full((size, size), 1 + 2**-9, np.float32)}
    found = {}
    for precision in ("fp32", "bf16"):
        with closing(open_session(graph, "openvino", precision, 1)) as opened:
            assert opened.describe()["precision"] == precision
            found[precision] = float(opened.run(inputs)["y"][0, 0])
    assert found == {"fp32": pytest.approx(64.125, rel=1e-6), "bf16": 64.0}
