"""Many graphs in one folder that share one file of weights: what several of them hold is written once."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import TracebackType

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from instatune_deploy.files import write_bytes
from instatune_deploy.graphs.carved import Carved, append_page

WEIGHTS = "weights.bin"


class PackedGraphs:
    """Writes graphs and their weights as the ONNX standard's external data: every runtime reads them from their paths."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stream = (folder / WEIGHTS).open("wb")
        self._offsets: dict[str, int] = {}

    def __enter__(self) -> PackedGraphs:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stream.close()

    def add(self, name: str, carved: Carved) -> str:
        """Write the graph as the file ``name``; its SHA-256 (of that file: its weights stand in `WEIGHTS`)."""
        model = onnx.ModelProto()
        model.CopyFrom(carved.graph)
        for item in model.graph.initializer:
            if item.name in carved.weights:
                _point(item, *self._place(carved.weights[item.name]))
        content = model.SerializeToString(deterministic=True)
        write_bytes(self.folder / name, content)
        return hashlib.sha256(content).hexdigest()

    def _place(self, values: NDArray[np.generic]) -> tuple[int, int]:
        """Where the values stand: offset and length in bytes."""
        content = np.ascontiguousarray(values).data.cast("B")
        key = hashlib.sha256(content).hexdigest()
        if key not in self._offsets:
            self._offsets[key] = append_page(self._stream, content)
        return self._offsets[key], len(content)


def _point(initializer: TensorProto, offset: int, length: int) -> None:
    del initializer.external_data[:]
    initializer.data_location = TensorProto.EXTERNAL
    for key, value in (("location", WEIGHTS), ("offset", str(offset)), ("length", str(length))):
        initializer.external_data.add(key=key, value=value)
