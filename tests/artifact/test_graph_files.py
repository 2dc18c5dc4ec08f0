from __future__ import annotations

import errno
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import openvino
import pytest

from instatune_deploy.artifact import graph_files
from instatune_deploy.artifact.graph_files import GRAPH_FILES, halved, write_graph
from instatune_deploy.devices.runtimes.registry import PRECISIONS
from instatune_deploy.digests import digest, file_sha256

from .tiny import HEAD, TABLE, tiny_graph, tiny_samples


def test_every_runtime_has_its_files() -> None:
    assert set(GRAPH_FILES) == set(PRECISIONS)


@pytest.mark.parametrize("runtime", list(GRAPH_FILES))
def test_the_files_are_those_that_are_named(tmp_path: Path, runtime: str) -> None:
    write_graph(tiny_graph(), runtime, "fp32", tmp_path)
    files = GRAPH_FILES[runtime]
    assert {path.name for path in tmp_path.iterdir()} == set(files.names)
    assert files.size_bytes(tmp_path) == sum(path.stat().st_size for path in tmp_path.iterdir())
    assert files.hash(tmp_path) == digest({path.name: file_sha256(path) for path in tmp_path.iterdir()})


def test_openvino_weights_stay_whole(tmp_path: Path) -> None:
    """Not halved to fp16, as its default is."""
    write_graph(tiny_graph(), "openvino", "fp32", tmp_path)
    weights = (tmp_path / "openvino_model.bin").read_bytes()
    assert TABLE.tobytes() in weights
    assert np.ascontiguousarray(HEAD).tobytes() in weights


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_openvino_weights_are_halved_where_nothing_is_lost_by_it(tmp_path: Path, precision: str) -> None:
    """fp16 keeps more bits than bf16; by itself the graph still gives what fp32 gives, within fp16's rounding."""
    write_graph(tiny_graph(), "openvino", precision, tmp_path)
    weights = (tmp_path / "openvino_model.bin").read_bytes()
    assert TABLE.astype(np.float16).tobytes() in weights
    assert TABLE.tobytes() not in weights
    assert halved("openvino", precision)
    assert not halved("openvino", "int8")
    assert not halved("onnxruntime", precision)
    samples = tiny_samples()
    compiled = openvino.Core().compile_model(tmp_path / "openvino_model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    np.testing.assert_allclose(compiled(samples.batch(0, 1))["logits"], samples.logits[:1], rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize(("free", "code"), [(0, errno.ENOSPC), (1 << 40, errno.EIO)])
def test_openvino_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, code: int) -> None:
    def full(*_: object, **__: object) -> None:
        raise RuntimeError("basic_ios::clear: iostream error")

    monkeypatch.setattr(openvino, "save_model", full)
    monkeypatch.setattr(graph_files.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    with pytest.raises(OSError, match="iostream") as raised:
        write_graph(tiny_graph(), "openvino", "fp32", tmp_path)
    assert raised.value.errno == code
