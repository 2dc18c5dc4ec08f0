"""The SuperNetwork: a Hugging Face model whose layers, heads and MLP widths are elastic."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from instatune_deploy.errors import BadInput
from instatune_deploy.image_size import check_image_size
from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.supernet.elastic import ElasticAttention, ElasticLayers, ElasticLinear
from instatune_deploy.supernet.elastic_images import ElasticEmbeddings
from instatune_deploy.supernet.families import family_of
from instatune_deploy.supernet.families.base import Family
from instatune_deploy.supernet.positions import resized, square
from instatune_deploy.supernet.shape import ModelShape

MODEL_CLASSES = {
    "text-classification": "AutoModelForSequenceClassification",
    "image-classification": "AutoModelForImageClassification",
}
"""By task, what a user loads a model with."""


class SuperNetwork(nn.Module):
    """The elastic model. Its parameters are those of the Hugging Face model it was made from (which it takes over).

    `activate` chooses the sub-network that `forward` runs; `extract` returns one as an ordinary, smaller model. Two of one
    model are the same network. ``BadInput`` for a model of no supported family, or without a head for a task.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.family = family_of(model.config.model_type, "super-network")
        self.shape = model_shape(model, self.family)
        self.model = model
        _set(model, self._layers_path, ElasticLayers.of(_layers(model, self.family)))
        for layer in self.layers:
            for path in self.family.linears:
                linear = layer.get_submodule(path)
                assert isinstance(linear, nn.Linear), path
                _set(layer, path, ElasticLinear.of(linear))
            ElasticAttention.of(layer.get_submodule(self.family.attention), self.family.projection)
        if self.shape.image_size is not None:
            ElasticEmbeddings.of(self.embeddings)
        self.activate(self.shape.full())
        self.train(model.training)

    @property
    def architecture(self) -> Architecture:
        """The active one."""
        return self.layers.architecture

    @property
    def layers(self) -> ElasticLayers:
        """All layers of the full model, whatever is active."""
        layers = self.model.get_submodule(self._layers_path)
        assert isinstance(layers, ElasticLayers)
        return layers

    @property
    def embeddings(self) -> nn.Module:
        """What makes the first layer's input: the same in all sub-networks."""
        return self.model.get_submodule(self._embeddings_path)

    @property
    def config(self) -> Any:
        """The Hugging Face configuration of the full model."""
        return self.model.config

    @property
    def _layers_path(self) -> str:
        return layers_path(self.model, self.family)

    @property
    def _embeddings_path(self) -> str:
        return f"{self.model.base_model_prefix}.{self.family.embeddings}"

    @property
    def _own_size(self) -> int:
        assert self.shape.image_size is not None
        return self.shape.image_size

    def _size_images(self, edge: int | None) -> None:
        embeddings = self.embeddings
        if isinstance(embeddings, ElasticEmbeddings):
            if edge is not None:
                assert self.shape.patch_size is not None
                check_image_size(edge, (self.shape.patch_size,) * 2)
            embeddings.image_size_now = None if edge == self._own_size else edge
        elif edge is not None:
            raise BadInput(f"super-network: images of {edge} px: this model takes no images of another size")

    def forward(self, **inputs: torch.Tensor) -> Any:
        """Run the active sub-network: the Hugging Face model's inputs and outputs (logits: (batch, labels))."""
        return self.model(**inputs)

    def activate(self, architecture: Architecture) -> None:
        """Make ``architecture`` the sub-network that `forward` runs. Costs no copy and no time.

        One of smaller images takes them in its own size, and in any other, which it shrinks (`ElasticEmbeddings`).
        """
        self._size_images(architecture.image_size)
        for layer, heads, width in architecture.per_layer():
            _size(self.layers[layer], self.family, heads * self.shape.head_size, width)
        self.layers.active, self.layers.architecture = architecture.layers, architecture

    @contextmanager
    def active(self, architecture: Architecture) -> Iterator[None]:
        """`activate` for the length of a ``with`` block."""
        before = self.architecture
        self.activate(architecture)
        try:
            yield
        finally:
            self.activate(before)

    def extract(self, architecture: Architecture) -> PreTrainedModel:
        """An ordinary Hugging Face model, in evaluation mode, that computes what `activate` makes this one compute.

        Its weights are copies. Heads and widths may differ from layer to layer, which no Hugging Face configuration can
        say: the configuration tells the depth and, where all layers agree, the MLP width. Of an attention without heads, or
        an MLP without neurons, the output bias is left. One of smaller images has positions for those alone.
        """
        with self.active(architecture):
            # keep what is not in the network out of the copy
            memo: dict[int, Any] = {id(self.layers): nn.ModuleList()}
            small = copy.deepcopy(self.model, memo)
            layers = [copy.deepcopy(layer, memo) for layer in self.layers]  # with the same configuration object
        for layer in layers:
            for path in self.family.linears:
                _set(layer, path, _linear(layer, path).extract())
            _set(layer, self.family.attention, _attention(layer, self.family).extract())
        _set(small, self._layers_path, nn.ModuleList(layers))
        if isinstance(embeddings := small.get_submodule(self._embeddings_path), ElasticEmbeddings):
            embeddings.extract()
            resized(small, architecture.image_size or self._own_size)
        small.config.num_hidden_layers = architecture.depth
        if len(set(architecture.mlp_widths)) == 1:
            small.config.intermediate_size = architecture.mlp_widths[0]
        return small.eval()

    @torch.no_grad()
    def reorder(self, layer: int, heads: Iterable[int], neurons: Iterable[int]) -> None:
        """Put heads and MLP neurons of a layer into the given order (permutations). The full network computes the same."""
        size = self.shape.head_size
        rows = torch.tensor([head * size + i for head in heads for i in range(size)])
        units = torch.tensor(list(neurons))
        module, family = self.layers[layer], self.family
        for outputs, inputs, order in ((family.heads_out, family.heads_in, rows), (family.mlp_out, family.mlp_in, units)):
            for path in outputs:
                linear = _linear(module, path)
                linear.weight.copy_(linear.weight[order])
                if linear.bias is not None:
                    linear.bias.copy_(linear.bias[order])
            for path in inputs:
                linear = _linear(module, path)
                linear.weight.copy_(linear.weight[:, order])


def layers_path(model: PreTrainedModel, family: Family) -> str:
    """Where the model keeps its ModuleList of layers, from the model itself. ``BadInput`` for one without a head."""
    if not hasattr(model, model.base_model_prefix):
        raise BadInput(f"super-network: {type(model).__name__} has no head for a task; load it as {MODEL_CLASSES[family.task]}")
    return f"{model.base_model_prefix}.{family.layers}"


def model_shape(model: PreTrainedModel, family: Family) -> ModelShape:
    """The sizes of a full model, as its matrices have them."""
    layers = _layers(model, family)
    layer = layers[0]
    weights = sum(layer.get_submodule(path).weight.numel() for path in family.linears)
    with_bias = [path for path in family.heads_out if layer.get_submodule(path).bias is not None]
    biases = sum(layer.get_submodule(path).out_features for path in (*with_bias, *family.mlp_out))
    of_layer = sum(parameter.numel() for parameter in layer.parameters())
    total = sum(parameter.numel() for parameter in model.parameters())
    base = getattr(model, model.base_model_prefix)
    heads = model.config.num_attention_heads
    return ModelShape(
        layers=len(layers),
        heads=heads,
        mlp_width=layer.get_submodule(family.mlp_out[0]).out_features,
        hidden_size=layer.get_submodule(family.heads_in[0]).out_features,
        head_size=layer.get_submodule(family.heads_out[0]).out_features // heads,
        fixed_parameters=total - of_layer * len(layers),
        layer_parameters=of_layer - weights - biases,
        family=family.name,
        head_biases=len(with_bias),
        patch_macs=0 if family.patches is None else base.get_submodule(family.patches).weight.numel(),
        class_tokens=family.class_tokens(model.config),
        **_square_images(model, family),
    )


def _square_images(model: PreTrainedModel, family: Family) -> dict[str, int]:
    """Edges of images and patches, where both are squares."""
    if family.patches is None:
        return {}
    image, patch = square(model.config.image_size), square(model.config.patch_size)
    return {} if image is None or patch is None else {"image_size": image, "patch_size": patch}


def _layers(model: PreTrainedModel, family: Family) -> Any:
    return model.get_submodule(layers_path(model, family))


def _size(layer: nn.Module, family: Family, inner: int, width: int) -> None:
    for outputs, inputs, size in ((family.heads_out, family.heads_in, inner), (family.mlp_out, family.mlp_in, width)):
        for path in outputs:
            _linear(layer, path).active_out = size
        for path in inputs:
            _linear(layer, path).active_in = size
    _attention(layer, family).active = inner > 0


def _linear(layer: nn.Module, path: str) -> ElasticLinear:
    module = layer.get_submodule(path)
    assert isinstance(module, ElasticLinear), path
    return module


def _attention(layer: nn.Module, family: Family) -> ElasticAttention:
    module = layer.get_submodule(family.attention)
    assert isinstance(module, ElasticAttention), family.attention
    return module


def _set(root: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(root.get_submodule(parent), name, module)
