"""A pruned model from its weights alone: what was cut shows in the shapes, so nothing but safetensors is kept of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.supernet.families import family_of
from instatune_deploy.supernet.network import SuperNetwork, layers_path, model_shape


def pruned_network(model: Any, weights: Path) -> tuple[SuperNetwork, Architecture]:
    """The super-network around ``model`` in which the pruned one is an architecture, and that architecture.

    model:   the unpruned model, which is taken over
    weights: the pruned model's parameters, under the names they have in ``model``; whole heads, MLP neurons and units of the
             residual stream may be missing

    Zeros stand where heads and neurons were; they are in no part of the architecture. So everything that is done with
    sub-networks (extracting, exporting, fusing, carving) is done with pruned models in the same way.
    """
    family = family_of(model.config.model_type, "pruned model")
    full = model_shape(model, family)
    state = load_file(weights)
    parameters = dict(model.named_parameters())
    prefixes = [f"{layers_path(model, family)}.{layer}." for layer in range(full.layers)]
    heads = [len(state[f"{prefix}{family.heads_out[0]}.weight"]) // full.head_size for prefix in prefixes]
    widths = [len(state[f"{prefix}{family.mlp_out[0]}.weight"]) for prefix in prefixes]
    for outputs, inputs in ((family.heads_out, family.heads_in), (family.mlp_out, family.mlp_in)):
        for prefix in prefixes:
            for name, axis in _elastic([f"{prefix}{path}" for path in outputs], [f"{prefix}{path}" for path in inputs], state):
                state[name] = _filled(state[name], axis, parameters[name].shape[axis])
    for name in parameters:
        path, _, last = name.rpartition(".")
        module = model.get_submodule(path)
        setattr(module, last, nn.Parameter(state[name]))
        _tell_sizes(module)
    model.config.hidden_size = state[f"{prefixes[0]}{family.heads_out[0]}.weight"].shape[1]
    return SuperNetwork(model), Architecture(tuple(range(full.layers)), tuple(heads), tuple(widths))


def _elastic(outputs: list[str], inputs: list[str], state: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Names of the parameters that shrink with heads or neurons, each with the axis along which it does."""
    for path in outputs:
        yield f"{path}.weight", 0
        if f"{path}.bias" in state:
            yield f"{path}.bias", 0
    for path in inputs:
        yield f"{path}.weight", 1


def _filled(values: torch.Tensor, axis: int, size: int) -> torch.Tensor:
    shape = list(values.shape)
    shape[axis] = size - shape[axis]
    return torch.cat([values, values.new_zeros(shape)], dim=axis)


def _tell_sizes(module: Any) -> None:
    """Put right the sizes that a module keeps beside its weights."""
    shape: torch.Size = module.weight.shape
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = shape
    elif isinstance(module, nn.Embedding):
        module.num_embeddings, module.embedding_dim = shape
    elif isinstance(module, nn.LayerNorm):
        module.normalized_shape = tuple(shape)
