"""First and second moments of what goes into the matrices that read heads and MLP neurons."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from instatune_deploy.supernet.importance.inputs import Batch, Place, on_device, places, undisturbed, watched
from instatune_deploy.supernet.network import SuperNetwork

DAMPING = 0.01
"""Of the mean of the diagonal, added to it: units that hardly vary would make the inverse meaningless."""


@dataclass
class Moments:
    """Sums over the tokens seen of one `Place`'s input x, (units,)."""

    tokens: int
    total: torch.Tensor
    """Sum of x: (units,)."""
    products: torch.Tensor
    """Sum of x x^T: (units, units)."""

    def add(self, inputs: torch.Tensor) -> None:
        """inputs: (tokens, units)."""
        inputs = inputs.float()
        self.tokens += len(inputs)
        self.total += inputs.sum(dim=0)
        self.products.addmm_(inputs.T, inputs)

    @property
    def mean(self) -> torch.Tensor:
        """(units,) float64."""
        return self.total.double() / self.tokens

    @property
    def hessian(self) -> torch.Tensor:
        """Mean of x x^T, damped: (units, units) float64, positive definite."""
        products = self.products.double() / self.tokens
        diagonal = products.diagonal()
        diagonal += DAMPING * diagonal.mean() + torch.finfo(torch.float32).tiny  # units that are always 0
        return products


@torch.no_grad()
def input_moments(network: SuperNetwork, batches: Iterable[Batch], layers: tuple[int, ...] | None = None) -> dict[Place, Moments]:
    """Of every place that anything goes into, while the full network computes ``batches``. Padding is left out.

    layers: those that are kept, at full width; all if not said
    """
    sizes = {place: place.linear(network).in_features for place in places(network)}
    moments: dict[Place, Moments] = {}
    mask: torch.Tensor | None = None

    def see(place: Place, inputs: torch.Tensor, outputs: torch.Tensor) -> None:
        if place not in moments:
            units = sizes[place]
            moments[place] = Moments(0, inputs.new_zeros(units).float(), inputs.new_zeros(units, units).float())
        of_text = mask is not None and mask.shape == inputs.shape[:-1]
        moments[place].add(inputs[mask.bool()] if of_text else inputs.flatten(0, -2))  # type: ignore[union-attr]

    with undisturbed(network, layers), watched(network, see):
        for batch in on_device(network, batches):
            mask = batch.get("attention_mask")
            network(**batch)
    return moments
