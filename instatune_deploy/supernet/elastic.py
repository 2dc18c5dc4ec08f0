"""Elastic modules: they compute with a prefix of their weights, or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from instatune_deploy.supernet.architecture import Architecture


class ElasticLinear(nn.Linear):
    """A Linear that computes with its first ``active_out`` rows and ``active_in`` columns.

    input (..., active_in) -> output (..., active_out). What is inactive is not computed and gets no gradient; the
    parameters, their names and the state dict are those of the Linear it was made from. Without any column the output is
    the bias.
    """

    active_in: int
    active_out: int

    @classmethod
    def of(cls, linear: nn.Linear) -> ElasticLinear:
        """Share the parameters of ``linear``, all of them active; one that is elastic already stays what it is."""
        if isinstance(linear, ElasticLinear):
            return linear
        elastic = cls(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        elastic.weight, elastic.bias = linear.weight, linear.bias
        elastic.active_in, elastic.active_out = linear.in_features, linear.out_features
        return elastic.train(linear.training)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """hidden: (..., active_in) -> (..., active_out)."""
        if self.active_in == self.in_features and self.active_out == self.out_features:
            return functional.linear(hidden, self.weight, self.bias)
        bias = None if self.bias is None else self.bias[: self.active_out]
        return functional.linear(hidden, self.weight[: self.active_out, : self.active_in], bias)

    def extract(self) -> nn.Linear:
        """An ordinary Linear with a copy of the active weights."""
        # made with one feature: torch warns of initialising a weight of none
        linear = nn.Linear(1, 1, self.bias is not None, device="meta", dtype=self.weight.dtype)
        linear.in_features, linear.out_features = self.active_in, self.active_out
        linear.weight = nn.Parameter(self.weight[: self.active_out, : self.active_in].detach().clone())
        if self.bias is not None:
            linear.bias = nn.Parameter(self.bias[: self.active_out].detach().clone())
        return linear.train(self.training)


class ElasticLayers(nn.ModuleList):
    """A ModuleList whose iteration, and so the model's forward pass, sees only the active layers.

    Hugging Face encoders run ``for layer in self.layer``. Parameters, names and indexing stay those of all layers.
    """

    architecture: Architecture
    """What `SuperNetwork.activate` made active: kept here, with the modules, for all `SuperNetwork`s of one model."""

    @classmethod
    def of(cls, layers: nn.ModuleList) -> ElasticLayers:
        """The same layers; those that are elastic already stay what they are."""
        return layers if isinstance(layers, ElasticLayers) else cls(layers)

    def __init__(self, layers: nn.ModuleList) -> None:
        super().__init__(list(layers))
        self.active: tuple[int, ...] = tuple(range(len(self)))

    def __iter__(self) -> Iterator[nn.Module]:
        return iter([self[index] for index in self.active])


class NoHeads(nn.Module):
    """The attention module of an extracted layer without heads. It has no parameters, or those of its own output matrix."""

    projection: str | None = None
    """The name of the output matrix, where that is a part of the attention module."""

    def forward(self, hidden: torch.Tensor, *_: Any, **__: Any) -> tuple[torch.Tensor, None]:
        """hidden: (batch, tokens, hidden_size) -> (batch, tokens, 0), or the bias of its output matrix for every token,
        (batch, tokens, hidden_size); and no attention weights."""
        nothing = hidden.new_empty(*hidden.shape[:-1], 0)
        return (nothing if self.projection is None else self.get_submodule(self.projection)(nothing)), None


class ElasticAttention(NoHeads):
    """An attention module of a Hugging Face model that computes nothing, `NoHeads`, while it is not ``active``.

    `of` makes a module of any class into one by giving it a class of both, so parameters, their names and the state dict
    stay as they are.
    """

    active: bool = True
    plain: type[nn.Module]
    """The class it was before."""

    @staticmethod
    def of(module: nn.Module, projection: str | None = None) -> ElasticAttention:
        """Change ``module`` itself, unless it is elastic already; it is active. projection: see `NoHeads`"""
        if isinstance(module, ElasticAttention):
            return module
        module.__class__ = elastic_class(ElasticAttention, type(module))  # type: ignore[arg-type]
        assert isinstance(module, ElasticAttention)
        if projection is not None:
            module.projection = projection
        return module

    def forward(self, hidden: torch.Tensor, *rest: Any, **named: Any) -> Any:
        """The arguments and results of the class it was before."""
        return (self.plain if self.active else NoHeads).forward(self, hidden, *rest, **named)  # type: ignore[arg-type]

    def extract(self) -> nn.Module:
        """An ordinary module: itself, which is no longer elastic, or `NoHeads`."""
        if not self.active:
            nothing = NoHeads()
            if self.projection is not None:
                nothing.projection = self.projection
                nothing.add_module(self.projection, self.get_submodule(self.projection))
            return nothing.train(self.training)
        for name in ("active", "projection"):
            self.__dict__.pop(name, None)
        self.__class__ = self.plain  # type: ignore[assignment]
        return self


@cache
def elastic_class(elastic: type[nn.Module], plain: type[nn.Module]) -> type[nn.Module]:
    """The class of both that modules of ``plain`` become, which ``plain`` is an attribute of; one for all of them."""
    return type(f"Elastic{plain.__name__}", (elastic, plain), {"plain": plain})
