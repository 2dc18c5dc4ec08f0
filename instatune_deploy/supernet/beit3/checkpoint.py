"""Reads a PyTorch checkpoint of a BEiT-3, in which nothing but tensors and plain values is loaded."""

from __future__ import annotations

import argparse
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from instatune_deploy.errors import BadInput, clear_os_errors
from instatune_deploy.words import counted

_PREFIXES = ("beit3.", "")
"""Of all that is no head: in models with a place for one, and in torchscale's own."""
_NESTED = ("model", "module")
"""Where training scripts keep the weights."""


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by name, as the file has them."""

    path: Path
    prefix: str
    """What begins the names of all that is no head."""
    tensors: Mapping[str, torch.Tensor]

    def is_base(self, name: str) -> bool:
        """Whether a name is that of something below a head."""
        return name.startswith(tuple(f"{self.prefix}{part}" for part in ("encoder.", "vision_embed.", "text_embed.")))

    def shape(self, name: str, dimensions: int) -> tuple[int, ...]:
        """The shape of a tensor; ``BadInput`` when it is not there or has another number of dimensions."""
        if name not in self.tensors:
            raise BadInput(f"{self.path}: '{name}' is missing")
        shape = tuple(self.tensors[name].shape)
        if len(shape) != dimensions or 0 in shape:
            raise BadInput(f"{self.path}: '{name}' is {sizes_said(shape)}; it should have {counted(dimensions, 'dimension')}")
        return shape


def sizes_said(shape: tuple[int, ...]) -> str:
    """``768 x 3072``, for people."""
    return " x ".join(str(size) for size in shape) or "one number"


def read_checkpoint(path: Path) -> Checkpoint:
    """The weights in a file that ``torch.save`` wrote. ``BadInput`` for one that holds anything else, or no BEiT-3."""
    if not path.is_file():
        raise BadInput(f"{path}: {'a folder, not a checkpoint file' if path.exists() else 'no such file'}")
    content = _load(path)
    for key in _NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise BadInput(f"{path}: a state dict is wanted, the names of tensors with the tensors; found {type(content).__name__}")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor) or not value.is_floating_point():
            raise BadInput(f"{path}: a state dict is wanted; '{name}' is no tensor of floating-point numbers")
    prefix = next((prefix for prefix in _PREFIXES if any(name.startswith(f"{prefix}encoder.layers.") for name in content)), None)
    if prefix is None:
        raise BadInput(
            f"{path}: no BEiT-3: none of its {len(content)} tensors has a name that begins with 'beit3.encoder.layers.'"
        )
    return Checkpoint(path, prefix, content)


def _load(path: Path) -> Any:
    with clear_os_errors(f"{path}: cannot be read"):
        path.open("rb").close()
    try:
        # training scripts store their arguments too, which are plain values in this class
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings(action="ignore"):
            return torch.load(str(path), map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # whatever bytes that are no checkpoint make of the reader
        code = re.search(r"GLOBAL ([\w.]+)", str(error))
        if code is not None:
            said = f"holds '{code[1]}'; only tensors and plain values are loaded, other things may run code"
        else:
            said = "not a PyTorch checkpoint that can be read without running code"
        raise BadInput(f"{path}: {said}") from error
