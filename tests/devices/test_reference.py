from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from instatune_deploy.devices.reference import (
    BLOCKS,
    INPUT,
    reference_graph,
    reference_graph_digest,
    reference_key,
    write_reference,
)
from instatune_deploy.devices.runs import Run
from instatune_deploy.devices.runtimes.registry import open_session


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_it_computes_its_blocks(runtime: str) -> None:
    """The same by numpy: x + softmax(relu(x up) down), twelve times."""
    weights = {item.name: numpy_helper.to_array(item) for item in onnx.load_from_string(reference_graph()).graph.initializer}
    x = np.random.default_rng(3).standard_normal((128, 384), dtype=np.float32)
    hidden = x
    for block in range(BLOCKS):
        narrow = np.maximum(hidden @ weights[f"up_{block}"], 0) @ weights[f"down_{block}"]
        raised = np.exp(narrow - narrow.max(axis=-1, keepdims=True))
        hidden = hidden + raised / raised.sum(axis=-1, keepdims=True)
    with closing(open_session(reference_graph(), runtime, "fp32", 1)) as session:
        assert session.input_shapes == {INPUT: (128, 384)}
        (output,) = session.run({INPUT: x}).values()
    np.testing.assert_allclose(output, hidden, atol=1e-4)


def test_its_size() -> None:
    model = onnx.load_from_string(reference_graph())
    onnx.checker.check_model(model, full_check=True)
    weights = [numpy_helper.to_array(item).size for item in model.graph.initializer]
    assert sum(weights) * 128 == 301_989_888  # multiply-accumulates: every weight once for every token


def test_it_is_the_same_in_every_process() -> None:
    code = "from instatune_deploy.devices.reference import reference_graph_digest; print(reference_graph_digest())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == reference_graph_digest()


def test_written_as_it_is(tmp_path: Path) -> None:
    path = write_reference(tmp_path / "new")
    assert path == tmp_path / "new" / "reference.onnx"
    assert path.read_bytes() == reference_graph()


def test_key_is_of_what_decides_its_latency() -> None:
    run = Run("onnxruntime", "fp32", 2)
    keys = [
        reference_key(run, "1.31", "a host"),
        reference_key(run._replace(threads=1), "1.31", "a host"),
        reference_key(run._replace(provider="cuda"), "1.31", "a host"),
        reference_key(run._replace(runtime="openvino"), "1.31", "a host"),
        reference_key(run, "1.32", "a host"),
        reference_key(run, "1.31", "another host"),
    ]
    assert len(set(keys)) == len(keys)
    assert keys[0] == reference_key(Run("onnxruntime", "fp32", 2, "cpu"), "1.31", "a host")
    assert keys[0] == reference_key(run._replace(precision="int8"), "1.31", "a host")  # beside int8 it is run in fp32 too
