"""From a checkpoint folder to a Hugging Face model that can become a super-network."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from instatune_deploy.errors import BadInput, reason
from instatune_deploy.supernet.families import family_of
from instatune_deploy.supernet.own_models import register_own_models

register_own_models()

LARGEST_BYTES = 2**31 - 2**24
"""A protobuf message ends at 2 GiB; some of it is the graph."""


def load_pretrained(folder: Path, labels: list[str], seed: int, kind: type[PreTrainedModel] | None = None) -> PreTrainedModel:
    """The pre-trained model of ``folder`` with a classifier for ``labels``, float32, in evaluation mode.

    kind: the class of the model; that of the family's task when not given

    Only safetensors are read and no code of the checkpoint is run. A classifier that the checkpoint lacks, or has for
    another number of labels, starts from ``seed``. ``BadInput`` when the layout is not supported, or when embeddings or
    layers are missing or of other sizes (which transformers would replace by random ones).
    """
    import torch

    config = load_config(folder)
    family_of(config.model_type, str(folder))
    config.num_labels = len(labels)
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: index for index, label in enumerate(labels)}
    config.problem_type = "single_label_classification"
    wanted: Any = kind or _model_class(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, found = from_folder(wanted, folder, config)
    _check_found(model, found, folder)
    weights = sum(4 * parameter.numel() for parameter in model.parameters())
    if weights > LARGEST_BYTES:
        most = f"{LARGEST_BYTES / 1e9:.1f} GB"
        raise BadInput(f"{folder}: {weights / 1e9:.1f} GB of weights are more than one ONNX file holds ({most})")
    return model.eval()


def from_folder(kind: Any, folder: Path, config: Any) -> tuple[Any, dict[str, Any]]:
    """A model of the class ``kind`` with the weights of ``folder``, float32, and what transformers says of missing ones.

    Only safetensors are read and no code of the checkpoint is run. ``BadInput`` when it cannot be loaded; weights that are
    missing or of other sizes are random, and the caller's to refuse.
    """
    import torch
    from safetensors import SafetensorError

    with quiet_transformers():
        try:
            model, found = kind.from_pretrained(
                folder,
                config=config,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                dtype=torch.float32,
            )
        except (OSError, RuntimeError, ValueError, TypeError, KeyError, ArithmeticError, SafetensorError) as error:
            raise BadInput(f"{folder}: the model cannot be loaded: {reason(error)}") from error
    return model, found


def _check_found(model: PreTrainedModel, found: dict[str, Any], folder: Path) -> None:
    """Only what stands above the layers (pooler, classifier) may be new."""
    family = family_of(model.config.model_type, str(folder))
    parts = tuple(f"{model.base_model_prefix}.{part}" for part in (family.embeddings, family.layers))
    new = {*found["missing_keys"], *(name for name, *_ in found["mismatched_keys"])}
    for name in model.state_dict():
        if name in new and name.startswith(parts):
            raise BadInput(f"{folder}: the weights are not those of config.json: '{name}' is missing or of another size")


def load_config(folder: Path) -> Any:
    """The Hugging Face configuration of a checkpoint folder; ``BadInput`` when there is none that can be used."""
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (
        Exception
    ) as error:  # transformers and huggingface_hub raise anything, for a field of the wrong type a class of their own
        raise BadInput(f"{folder}: config.json cannot be used: {reason(error)}") from error
    if getattr(config, "num_hidden_layers", 1) < 1:
        raise BadInput(f"{folder}: config.json cannot be used: num_hidden_layers must be at least 1")
    return config


def model_from_config(config: Any) -> PreTrainedModel:
    """A model of the configuration's shape with random weights (they are loaded next)."""
    return _model_class(config).from_config(config)


def _model_class(config: Any) -> Any:
    from optimum.exporters.tasks import TasksManager

    family = family_of(config.model_type, "configuration")
    return TasksManager.get_model_class_for_task(family.task, framework="pt", model_type=config.model_type)


class quiet_transformers:  # noqa: N801 - reads as a context manager
    """Silence transformers' reports and progress bars: a fresh classifier is what we asked for."""

    def __enter__(self) -> None:
        self._level = transformers_logging.get_verbosity()
        self._bars = transformers_logging.is_progress_bar_enabled()
        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        warnings.simplefilter("ignore")

    def __exit__(self, *exception: Any) -> None:
        self._warnings.__exit__(*exception)
        transformers_logging.set_verbosity(self._level)
        if self._bars:
            transformers_logging.enable_progress_bar()
