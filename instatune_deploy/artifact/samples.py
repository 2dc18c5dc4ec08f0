"""Sample inputs and the logits PyTorch gave for them: `samples.npz`, plain arrays and no pickles."""

from __future__ import annotations

import math
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from instatune_deploy.errors import VerificationFailed, reason

FILE_NAME = "samples.npz"
LOGITS = "logits"
MAX_BYTES = 256 << 20
"""Of all arrays together; 32 images of 384 x 384 pixels take 57 MB."""

# RuntimeError is an encrypted file or a header nested too deeply; the last two are headers that are not even Python
_BROKEN = (
    OSError,
    ValueError,
    TypeError,
    EOFError,
    AttributeError,
    MemoryError,
    OverflowError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
    tokenize.TokenError,
    SyntaxError,
)


def batch(inputs: Mapping[str, NDArray[Any]], start: int, size: int) -> dict[str, NDArray[Any]]:
    """``size`` rows of ``inputs`` from ``start`` on; where there are no more, the last one is repeated."""
    return {name: values[np.minimum(np.arange(start, start + size), len(values) - 1)] for name, values in inputs.items()}


@dataclass(frozen=True, eq=False)
class Samples:
    """Real rows, ready for the graph.

    inputs: by name, each (rows, ...) with the graph's own sizes behind the rows
    logits: (rows, classes), float32, by PyTorch in fp32
    """

    inputs: Mapping[str, NDArray[Any]]
    logits: NDArray[Any]

    def __post_init__(self) -> None:
        if not self.inputs or LOGITS in self.inputs:
            raise ValueError(f"there must be inputs, and none may be called '{LOGITS}'")
        if self.logits.ndim != 2 or self.rows < 1 or not np.isfinite(self.logits).all():
            raise ValueError(f"logits must be finite numbers of shape (rows, classes) (found shape {self.logits.shape})")
        for name, values in self.inputs.items():
            if values.dtype.kind not in "biuf":
                raise ValueError(f"{name} must be numbers (found {values.dtype})")
            if values.ndim < 2 or len(values) != self.rows:
                raise ValueError(f"{name} must have {self.rows} rows, like the logits (found shape {values.shape})")

    @property
    def rows(self) -> int:
        """How many."""
        return len(self.logits)

    def batch(self, start: int, size: int) -> dict[str, NDArray[Any]]:
        """Inputs of ``size`` rows from ``start`` on; where there are no more, the last one is repeated."""
        return batch(self.inputs, start, size)

    def write(self, folder: Path) -> None:
        """Write samples.npz: one array an input under its name, and ``logits``."""
        arrays: dict[str, Any] = {**self.inputs, LOGITS: self.logits}
        np.savez(folder / FILE_NAME, **arrays)

    @classmethod
    def read(cls, folder: Path) -> Samples:
        """The inverse of `write`; ``VerificationFailed`` when the file is not that."""
        path = folder / FILE_NAME
        try:
            _check_sizes(path)
            with np.load(path, allow_pickle=False) as arrays:
                values = {name: arrays[name] for name in arrays.files}
            logits = values.pop(LOGITS)
            return cls(values, logits)
        except KeyError as error:
            raise VerificationFailed(f"{path}: it holds no {error}") from error
        except _BROKEN as error:
            raise VerificationFailed(
                f"{path}: not the samples of an artifact: {reason(error) or type(error).__name__}"
            ) from error


def _check_sizes(path: Path) -> None:
    """ValueError for more than `MAX_BYTES`, or an array that says to be larger than its file: neither is read."""
    with zipfile.ZipFile(path) as archive:
        files = archive.infolist()
        size = max(path.stat().st_size, sum(file.file_size for file in files))
        if size > MAX_BYTES:
            raise ValueError(f"{size} bytes, and no more than {MAX_BYTES} are read")
        for file in files:
            if file.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f"{file.filename} is compressed in an unusual way")
            with archive.open(file) as stream:
                _check_header(stream, file.file_size)


def _check_header(stream: IO[bytes], size: int) -> None:
    """ValueError unless the array whose file of ``size`` bytes this is fills it."""
    version = npy.read_magic(stream)
    shape, _, dtype = (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(stream)
    told = stream.tell() + math.prod(shape) * dtype.itemsize
    if not dtype.hasobject and told != size:
        raise ValueError(f"an array of {dtype} and shape {shape} would take {told} bytes, and has {size}")
