"""The graph's files: what each runtime reads. A new runtime is one function and one line here."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from instatune_deploy.digests import digest, file_sha256

if TYPE_CHECKING:
    import onnx

# the .xml beside the weights is well below this
ROOM_BYTES = 1 << 20


@dataclass(frozen=True)
class GraphFiles:
    """The files of one runtime's format, the one it is told to load first, and how they are made from an ONNX graph."""

    names: tuple[str, ...]
    write: Callable[[bytes, Path, bool], None]
    narrow: tuple[str, ...] = ()
    """Precisions in which nothing is lost when weights lie in the files as fp16, half as large: they are widened, or narrowed
    further, when the graph is loaded."""

    def path(self, folder: Path) -> Path:
        """The file that the runtime is told to load."""
        return folder / self.names[0]

    def size_bytes(self, folder: Path) -> int:
        """Of all files together."""
        return sum((folder / name).stat().st_size for name in self.names)

    def hash(self, folder: Path) -> str:
        """Digest of all files' names and bytes."""
        return digest({name: file_sha256(folder / name) for name in self.names})


def write_graph(model: onnx.ModelProto, runtime: str, precision: str, folder: Path) -> None:
    """Write ``model`` into ``folder`` as ``runtime`` reads it. For ONNX Runtime its own fused operators are welcome; for
    OpenVINO the graph must hold standard operators only. OSError when the disk is full.
    """
    GRAPH_FILES[runtime].write(model.SerializeToString(), folder, halved(runtime, precision))


def halved(runtime: str, precision: str) -> bool:
    """Whether weights lie in the files as fp16."""
    return precision in GRAPH_FILES[runtime].narrow


def _write_onnx(graph: bytes, folder: Path, half: bool) -> None:
    (folder / "model.onnx").write_bytes(graph)


def _write_openvino(graph: bytes, folder: Path, half: bool) -> None:
    import openvino

    model = openvino.Core().read_model(graph)
    try:
        openvino.save_model(model, folder / "openvino_model.xml", compress_to_fp16=half)
    except RuntimeError as error:  # all it says about a full disk is "iostream error"
        full = shutil.disk_usage(folder).free < len(graph) + ROOM_BYTES
        raise OSError(errno.ENOSPC if full else errno.EIO, f"OpenVINO could not write its files ({error})") from error


GRAPH_FILES = {
    "onnxruntime": GraphFiles(("model.onnx",), _write_onnx),
    # bf16 keeps 8 bits of what fp16 keeps 11 of; parity is proved on the files
    "openvino": GraphFiles(("openvino_model.xml", "openvino_model.bin"), _write_openvino, ("bf16", "fp16")),
}
