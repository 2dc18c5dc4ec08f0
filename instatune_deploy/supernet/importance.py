"""Order heads and MLP neurons by importance, so that a prefix of them keeps what matters.

First-order Taylor criterion (Molchanov et al., arXiv 1611.06440; for heads Michel et al., arXiv 1905.10650): removing a unit
changes the loss by about |activation x gradient|, averaged over rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn

from instatune_deploy.supernet.network import SuperNetwork


def order_by_importance(network: SuperNetwork, batches: Iterable[dict[str, torch.Tensor]]) -> None:
    """Reorder every layer of ``network``, most important first. The full network computes exactly what it did.

    batches: inputs with ``labels``, as the model takes them; a few hundred rows are enough.
    """
    heads, neurons = taylor_importance(network, batches)
    for layer in range(network.shape.layers):
        network.reorder(
            layer,
            heads[layer].argsort(descending=True, stable=True).tolist(),
            neurons[layer].argsort(descending=True, stable=True).tolist(),
        )


def taylor_importance(network: SuperNetwork, batches: Iterable[dict[str, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Importance of every head, (layers, heads), and of every MLP neuron, (layers, mlp_width); float32, >= 0."""
    shape, family = network.shape, network.family
    heads = torch.zeros(shape.layers, shape.heads)
    neurons = torch.zeros(shape.layers, shape.mlp_width)
    rows = 0
    seen: dict[tuple[str, int], torch.Tensor] = {}

    def keep(kind: str, layer: int) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
        def hook(module: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
            seen[kind, layer] = arguments[0]

        return hook

    handles = [
        network.layers[layer].get_submodule(path).register_forward_pre_hook(keep(kind, layer))
        for layer in range(shape.layers)
        for kind, path in (("heads", family.heads_in[0]), ("mlp", family.mlp_in[0]))
    ]
    training = network.training
    network.eval()  # dropout would make the order depend on its noise
    try:
        with network.active(shape.full()), torch.enable_grad():  # of the activations only: weights need none
            for batch in batches:
                gradients = torch.autograd.grad(network(**batch).loss, list(seen.values()))
                for ((kind, layer), activation), gradient in zip(seen.items(), gradients, strict=True):
                    # (rows, tokens, units) -> per row the change of its loss if a unit were zero; the batch's is their mean
                    change = (activation.detach().float() * gradient.float()).sum(dim=1) * len(activation)
                    if kind == "heads":
                        per_head = change.view(len(change), shape.heads, shape.head_size).sum(dim=-1)
                        heads[layer] += per_head.abs().sum(dim=0)
                    else:
                        neurons[layer] += change.abs().sum(dim=0)
                rows += len(batch["labels"])
                seen.clear()
    finally:
        for handle in handles:
            handle.remove()
        network.train(training)
    return heads / rows, neurons / rows
