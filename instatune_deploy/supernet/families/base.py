"""What a family is: where one kind of transformer keeps its layers, heads and MLPs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Family:
    """Paths of the elastic parts. A path with dots is relative to the model or, below, to one layer.

    Heads are blocks of ``head_size`` rows in ``heads_out`` and of columns in ``heads_in``; MLP neurons are rows of
    ``mlp_out`` and columns of ``mlp_in``. All four name `torch.nn.Linear` modules; those of ``heads_in`` and ``mlp_in``
    have biases, which are what is left of an attention without heads and of an MLP without neurons.
    """

    name: str
    model_types: tuple[str, ...]
    """The ``model_type`` of the Hugging Face configurations that have this layout."""
    task: str
    """The task of optimum's TasksManager that gives the model class."""
    layers: str
    """The ModuleList of layers, below the base model (``base_model_prefix``)."""
    embeddings: str
    """The module from the model's input to what the first layer takes, or to what is projected to that; below the base model."""
    attention: str
    """The module from a layer's input, (batch, tokens, hidden_size), to what ``heads_in`` reads and the attention weights; or,
    where it has ``heads_in`` in itself, to what that gives."""
    heads_out: tuple[str, ...]
    heads_in: tuple[str, ...]
    mlp_out: tuple[str, ...]
    mlp_in: tuple[str, ...]
    positions: Callable[[Any], int]
    """The longest input, in tokens, that a configuration of this family has positions for."""
    paper: str
    """The preset of `supernet.presets` with the search space that arXiv 2308.15609 has for this family."""
    patches: str | None = None
    """The convolution that makes tokens of an image's patches, below the base model."""
    class_tokens: Callable[[Any], int] = lambda config: 0
    """How many of an image's tokens are no patches."""

    @property
    def projection(self) -> str | None:
        """Where an attention module has its output matrix in itself: its path from there."""
        inside = f"{self.attention}."
        return self.heads_in[0].removeprefix(inside) if self.heads_in[0].startswith(inside) else None

    @property
    def linears(self) -> tuple[str, ...]:
        """Every elastic Linear of a layer."""
        return (*self.heads_out, *self.heads_in, *self.mlp_out, *self.mlp_in)
