"""Order heads and MLP neurons by importance, so that a prefix of them keeps what matters. A criterion is one line below."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

from instatune_deploy.errors import BadInput
from instatune_deploy.supernet.importance.correction import correct_prefixes, corrected
from instatune_deploy.supernet.importance.fisher import fisher_importance
from instatune_deploy.supernet.importance.inputs import Batch, Importance
from instatune_deploy.supernet.importance.layers import layer_order
from instatune_deploy.supernet.importance.second_order import second_order_importance
from instatune_deploy.supernet.importance.taylor import taylor_importance
from instatune_deploy.supernet.importance.weight_norm import weight_norm_importance
from instatune_deploy.supernet.network import SuperNetwork

__all__ = [
    "IMPORTANCE",
    "correct_prefixes",
    "corrected",
    "importance_of",
    "layer_order",
    "most_important_first",
    "order_by_importance",
]

Criterion = Callable[[SuperNetwork, Iterable[Batch]], Importance]

IMPORTANCE: dict[str, Criterion] = {
    "taylor": taylor_importance,
    "fisher": fisher_importance,
    "second-order": second_order_importance,
    "weight-norm": weight_norm_importance,
}


def order_by_importance(network: SuperNetwork, batches: Iterable[Batch] | None, method: str = "taylor") -> None:
    """Reorder every layer of ``network``, most important first. The full network computes exactly what it did.

    batches: inputs with ``labels``, as the model takes them; a few hundred rows are enough, and "weight-norm" needs none
    method:  a name of `IMPORTANCE`; ``BadInput`` for another, and for one that needs rows when there are none
    """
    heads, neurons = importance_of(network, batches, method)
    for layer in range(network.shape.layers):
        network.reorder(layer, most_important_first(heads[layer]), most_important_first(neurons[layer]))


def importance_of(network: SuperNetwork, batches: Iterable[Batch] | None, method: str) -> Importance:
    """What `order_by_importance` sorts by: of every head, (layers, heads), and of every neuron, (layers, mlp_width)."""
    if method not in IMPORTANCE:
        raise BadInput(f"importance '{method}' is not known; known are: {', '.join(IMPORTANCE)}")
    rows = list(batches or ())
    if not rows and method != "weight-norm":
        raise BadInput(f"importance '{method}' needs rows of data; 'weight-norm' needs none")
    return IMPORTANCE[method](network, rows)


def most_important_first(importance: torch.Tensor) -> list[int]:
    """(units,) -> the units, equal ones in their order."""
    order: list[int] = importance.argsort(descending=True, stable=True).tolist()
    return order
