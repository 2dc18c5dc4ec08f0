"""Models and data sets of the Hugging Face hub: safe files only, and one clear line when the hub cannot help."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from instatune_deploy.errors import BadInput, reason

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

# weights without pickles, no code
MODEL_FILES = ["*.safetensors", "*.json", "*.txt"]


def fetch_model(name: str, revision: str | None, where: str) -> Path:
    """Download the safe files of hub model ``name`` and return their folder (in the hub's own cache)."""
    from huggingface_hub import snapshot_download

    try:
        # transformers reads the top folder only; others hold exports for other libraries
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=MODEL_FILES, ignore_patterns=["*/*"]))
    except (OSError, ValueError) as error:  # every error of the hub is one of these two
        raise BadInput(f"{where}: {name}: {_why(error, 'model', revision)}") from error
    if not any(folder.glob("*.safetensors")):
        raise BadInput(
            f"{where}: {name}: this hub model has no safetensors weights, and pickled checkpoints are never loaded; "
            "convert it with safetensors, or name another model"
        )
    return folder


def load_data(name: str, revision: str | None, where: str) -> DatasetDict | Dataset:
    """Download hub data set ``name``; offline (``HF_HUB_OFFLINE=1``) its local copy is used."""
    import datasets
    from huggingface_hub import HfApi
    from huggingface_hub.errors import OfflineModeIsEnabled

    try:
        # asked first because `load_dataset` retries an unreachable hub for half a minute
        HfApi().dataset_info(name, revision=revision, timeout=20)
    except OfflineModeIsEnabled:
        pass
    except Exception as error:
        raise BadInput(f"{where}: {name}: {_why(error, 'data set', revision)}") from error
    try:
        return datasets.load_dataset(name, revision=revision)
    except Exception as error:  # the builders of `datasets` raise anything
        raise BadInput(f"{where}: {name}: the hub data set cannot be loaded: {reason(error)}") from error


def _why(error: Exception, what: str, revision: str | None) -> str:
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(error, GatedRepoError):
        return f"the hub gives this {what} only to people it knows; accept its terms there and run `hf auth login`"
    if isinstance(error, RepositoryNotFoundError):
        return f"no such local file or folder, and the hub has no {what} of this name that you may read"
    if isinstance(error, RevisionNotFoundError):
        return f"the hub's {what} has no revision '{revision}'"
    if isinstance(error, HFValidationError):
        return f"no such local file or folder, and no name of a hub {what}"
    return f"no such local file or folder, and the hub could not be reached and has left no local copy ({reason(error)})"
