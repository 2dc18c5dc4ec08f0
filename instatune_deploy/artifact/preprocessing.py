"""How an input becomes what the graph takes in, for consumers in any language: `preprocessing.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from instatune_deploy.artifact.samples import LOGITS
from instatune_deploy.files import read_json, write_json

FILE_NAME = "preprocessing.json"


def write_preprocessing(folder: Path, described: Mapping[str, Any], batch_size: int, labels: Sequence[str]) -> None:
    """described: what the task says (`tasks.base.Task.described`)"""
    write_json(folder / FILE_NAME, {**described, "batch_size": batch_size, "output": LOGITS, "labels": list(labels)})


def kind_of(folder: Path) -> str | None:
    """What an artifact's inputs are made of, ``text`` or ``image``; None where nothing says how."""
    path = folder / FILE_NAME
    return str(read_json(path)["kind"]) if path.is_file() else None
