"""Correct what remains for what is gone, without any training: least squares against what the full matrices give.

The correction of ZipLM (arXiv 2302.04089, Eq. 3) and of the Optimal Brain Surgeon, in closed form. A matrix W with bias b reads
the units x; take the bias as one more column, whose unit is always 1 and never gone, and let H be the second moments of x. For
the prefix of k units, projected by P_k, the best W' has W' P_k H P_k = W H P_k.

One size (`corrected`): a stand-alone pruned model. Many sizes (`correct_prefixes`): a super-network's sub-networks share W', and
the sum of their errors is least for W' sum_k P_k H P_k = W H sum_k P_k, which is one linear system as well. The full network
is among the sizes and gives up a little exactness for the prefixes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import nn
from transformers import PreTrainedModel

from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.supernet.importance.inputs import Batch
from instatune_deploy.supernet.importance.moments import Moments, input_moments
from instatune_deploy.supernet.network import SuperNetwork, layers_path


@torch.no_grad()
def corrected(network: SuperNetwork, batches: Iterable[Batch], architecture: Architecture) -> PreTrainedModel:
    """`SuperNetwork.extract`, with the matrices that read heads and neurons fitted to give what the full ones give.

    batches: inputs as the model takes them; a few hundred rows are enough, labels are not needed

    It is right for this one architecture. Layers that are not kept are not made up for.
    """
    small = network.extract(architecture)
    layers = small.get_submodule(layers_path(small, network.family))
    assert isinstance(layers, nn.ModuleList)
    for place, moments in input_moments(network, batches, architecture.layers).items():
        index = architecture.layers.index(place.layer)
        sizes = {"heads": architecture.heads[index] * network.shape.head_size, "mlp": architecture.mlp_widths[index]}
        linear = layers[index].get_submodule(place.path)
        assert isinstance(linear, nn.Linear), place
        weight, bias = _fit(place.linear(network), moments, {sizes[place.kind]: 1.0})
        linear.weight.copy_(weight)
        linear.bias.copy_(bias)
    return small


@torch.no_grad()
def correct_prefixes(
    network: SuperNetwork,
    batches: Iterable[Batch],
    heads: Sequence[int],
    mlp_widths: Sequence[int],
    full_weight: float = 1.0,
) -> None:
    """Change the matrices that read heads and neurons so that every size of them gives about what the full ones gave.

    batches:           inputs as the model takes them; a few hundred rows are enough, labels are not needed
    heads, mlp_widths: the sizes that a layer may have; 0 and the full ones may be among them or not, the full ones count anyway
    full_weight:       how many times the full size counts

    For after `order_by_importance` and before training. The full network no longer computes exactly what it did.
    """
    shape = network.shape
    sizes = {"heads": [count * shape.head_size for count in heads], "mlp": list(mlp_widths)}
    for place, moments in input_moments(network, batches).items():
        linear = place.linear(network)
        of_full = {linear.in_features: full_weight}
        weight, bias = _fit(linear, moments, dict.fromkeys(sizes[place.kind], 1.0) | of_full)
        linear.weight.copy_(weight)
        linear.bias.copy_(bias)


def _fit(linear: nn.Linear, moments: Moments, sizes: Mapping[int, float]) -> tuple[torch.Tensor, torch.Tensor]:
    """The weight, (outputs, largest size), and the bias that serve all ``sizes`` best; how much each counts is its value."""
    most = max(sizes)
    hessian = torch.block_diag(moments.hessian, moments.mean.new_ones(1, 1))  # with the bias's unit
    hessian[-1, :-1] = hessian[:-1, -1] = moments.mean
    full = torch.cat([linear.weight, linear.bias[:, None]], dim=1).double()
    read = [*range(most), len(hessian) - 1]
    # how much the sizes count that a column is read in; the bias in all
    counts = hessian.new_tensor([sum(count for size, count in sizes.items() if size > unit) for unit in range(most)])
    counts = torch.cat([counts, counts.new_tensor([sum(sizes.values())])])
    system = hessian[read][:, read] * torch.minimum(counts[:, None], counts)
    fitted = torch.linalg.solve(system, (full @ hessian[:, read] * counts).T).T
    return fitted[:, :-1], fitted[:, -1]
