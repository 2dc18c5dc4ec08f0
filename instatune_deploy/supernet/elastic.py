"""Elastic modules: layers of torch that compute with a prefix of their weights."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional


class ElasticLinear(nn.Linear):
    """A Linear that computes with its first ``active_out`` rows and ``active_in`` columns.

    input (..., active_in) -> output (..., active_out). What is inactive is not computed and gets no gradient; the
    parameters, their names and the state dict are those of the Linear it was made from.
    """

    active_in: int
    active_out: int

    @classmethod
    def of(cls, linear: nn.Linear) -> ElasticLinear:
        """Share the parameters of ``linear``, all of them active."""
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
        linear = nn.Linear(self.active_in, self.active_out, self.bias is not None, device="meta", dtype=self.weight.dtype)
        linear.weight = nn.Parameter(self.weight[: self.active_out, : self.active_in].detach().clone())
        if self.bias is not None:
            linear.bias = nn.Parameter(self.bias[: self.active_out].detach().clone())
        return linear.train(self.training)


class ElasticLayers(nn.ModuleList):
    """A ModuleList whose iteration, and so the model's forward pass, sees only the active layers.

    Hugging Face encoders run ``for layer in self.layer``. Parameters, names and indexing stay those of all layers.
    """

    def __init__(self, layers: nn.ModuleList) -> None:
        super().__init__(list(layers))
        self.active: tuple[int, ...] = tuple(range(len(self)))

    def __iter__(self) -> Iterator[nn.Module]:
        return iter([self[index] for index in self.active])
