"""The matrices that read heads and MLP neurons, and what goes through them while the full network runs."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple

import torch
from torch import nn

from instatune_deploy.errors import BadInput
from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.supernet.network import SuperNetwork

Kind = Literal["heads", "mlp"]

Batch = dict[str, torch.Tensor]
"""Inputs as the model takes them, each (rows, ...); with ``labels``, (rows,), where a loss is needed."""

Importance = tuple[torch.Tensor, torch.Tensor]
"""Of heads, (layers, heads), and of MLP neurons, (layers, mlp_width): float32 on the CPU; the larger, the more important."""


class Place(NamedTuple):
    """One matrix whose columns are heads or neurons: a Linear of ``family.heads_in`` or ``family.mlp_in``."""

    layer: int
    kind: Kind
    path: str

    def linear(self, network: SuperNetwork) -> nn.Linear:
        """The module: weight (hidden, units)."""
        module = network.layers[self.layer].get_submodule(self.path)
        assert isinstance(module, nn.Linear), self
        return module


def places(network: SuperNetwork) -> list[Place]:
    """Every such matrix, layer by layer."""
    family = network.family
    paths = [("heads", path) for path in family.heads_in] + [("mlp", path) for path in family.mlp_in]
    return [Place(layer, kind, path) for layer in range(network.shape.layers) for kind, path in paths]  # type: ignore[arg-type]


@contextmanager
def undisturbed(network: SuperNetwork, layers: tuple[int, ...] | None = None) -> Iterator[None]:
    """All heads and neurons, of all layers or of some; no dropout, whose noise would be in the result.

    Afterwards all is as it was.
    """
    training = network.training
    network.eval()
    try:
        with network.active(at_full_width(network, layers)):
            yield
    finally:
        network.train(training)


def at_full_width(network: SuperNetwork, layers: tuple[int, ...] | None = None) -> Architecture:
    """These layers, or all, with all heads and neurons."""
    shape = network.shape
    if layers is None:
        return shape.full()
    return Architecture(layers, (shape.heads,) * len(layers), (shape.mlp_width,) * len(layers))


See = Callable[[Place, torch.Tensor, torch.Tensor], None]
"""Called with a place, what goes into it, (rows, tokens, units), and what it gives, (rows, tokens, hidden_size)."""


@contextmanager
def watched(network: SuperNetwork, see: See) -> Iterator[None]:
    """Call ``see`` for every `Place` whenever the network runs."""

    def hook(place: Place) -> Callable[[nn.Module, tuple[torch.Tensor, ...], torch.Tensor], None]:
        return lambda module, arguments, output: see(place, arguments[0], output)

    handles = [place.linear(network).register_forward_hook(hook(place)) for place in places(network)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def with_gradients(
    network: SuperNetwork, batches: Iterable[Batch], of: Literal["inputs", "outputs"]
) -> Generator[tuple[Batch, list[tuple[Place, torch.Tensor, torch.Tensor]]], None, None]:
    """Each batch, and of every `Place` what goes into it, or what it gives, with the gradient of the batch's loss by that.

    The full network runs `undisturbed`; no gradients of weights are computed.
    """
    seen: dict[Place, torch.Tensor] = {}

    def keep(place: Place, inputs: torch.Tensor, outputs: torch.Tensor) -> None:
        seen[place] = inputs if of == "inputs" else outputs

    with undisturbed(network), watched(network, keep), torch.enable_grad():
        for batch in on_device(network, batches):
            gradients = torch.autograd.grad(network(**batch).loss, list(seen.values()), allow_unused=True, materialize_grads=True)
            yield batch, [(place, value, gradient) for (place, value), gradient in zip(seen.items(), gradients, strict=True)]
            seen.clear()


def on_device(network: SuperNetwork, batches: Iterable[Batch]) -> Iterator[Batch]:
    """The batches, where the network is; ``BadInput`` when there are none."""
    device = next(network.parameters()).device
    batch = None
    for batch in batches:
        yield {name: value.to(device) for name, value in batch.items()}
    if batch is None:
        raise BadInput("rows of data are needed to see what heads, neurons and layers are worth (found none)")


def per_unit(network: SuperNetwork, of: Callable[[int, Kind, int], torch.Tensor]) -> Importance:
    """An `Importance` from that of each layer's heads and of its neurons: ``of(layer, kind, units)`` gives (units,)."""
    shape = network.shape
    sizes: tuple[tuple[Kind, int], ...] = (("heads", shape.heads), ("mlp", shape.mlp_width))
    heads, neurons = (torch.stack([of(layer, kind, units) for layer in range(shape.layers)]) for kind, units in sizes)
    return heads.float().cpu(), neurons.float().cpu()


def by_round(order: list[int]) -> torch.Tensor:
    """Units in the order in which they are removed -> the round of each: 0 is the least important."""
    rounds = torch.empty(len(order))
    rounds[order] = torch.arange(len(order), dtype=torch.float32)
    return rounds
