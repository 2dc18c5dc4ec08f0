"""What the order of heads and neurons means: nothing, as long as all matrices agree on it."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from .tiny import images, make_model, texts


@torch.no_grad()
def reorder(norm: nn.LayerNorm, outputs: list[nn.Linear], inputs: nn.Linear, order: torch.Tensor) -> None:
    for parameter in (norm.weight, norm.bias, *(value for linear in outputs for value in (linear.weight, linear.bias))):
        parameter.copy_(parameter[order])
    inputs.weight.copy_(inputs.weight[:, order])


@given(heads=st.permutations(range(4)), neurons=st.tuples(st.permutations(range(24)), st.permutations(range(24))))
@torch.no_grad()
def test_heads_are_blocks_that_both_ways_share_and_neurons_are_each_ways_own(
    heads: list[int], neurons: tuple[list[int], list[int]]
) -> None:
    model = make_model()
    expected = model(images(2), texts(2, 3)).last_hidden_state
    layer = model.layers[1]
    rows = torch.tensor([4 * head + i for head in heads for i in range(4)])
    attention = layer.attention
    for way, order in zip("AB", neurons, strict=True):
        matrices = [projection[way] for projection in (attention.q_proj, attention.k_proj, attention.v_proj)]
        reorder(attention.inner_norm[way], matrices, attention.o_proj[way], rows)
        mlp = layer.mlp[way]
        reorder(mlp.inner_norm, [mlp.fc1], mlp.fc2, torch.tensor(order))
    assert torch.allclose(model(images(2), texts(2, 3)).last_hidden_state, expected, atol=1e-5)


@torch.no_grad()
def test_a_way_with_heads_in_another_order_is_another_network() -> None:
    model = make_model()
    expected = model(images(2), texts(2, 3)).last_hidden_state
    attention = model.layers[1].attention
    matrices = [projection["A"] for projection in (attention.q_proj, attention.k_proj, attention.v_proj)]
    rows = torch.arange(16).reshape(4, 4).flip(0).flatten()
    reorder(attention.inner_norm["A"], matrices, attention.o_proj["A"], rows)
    assert (model(images(2), texts(2, 3)).last_hidden_state - expected).abs().max() > 1e-2


def test_every_elastic_matrix_is_a_linear_with_bias_at_its_place() -> None:
    for layer in make_model().layers:
        found = {name for name, module in layer.named_modules() if isinstance(module, nn.Linear) and module.bias is not None}
        assert found == {
            *(f"attention.{name}.{way}" for name in ("q_proj", "k_proj", "v_proj", "o_proj") for way in "AB"),
            *(f"mlp.{way}.{name}" for name in ("fc1", "fc2") for way in "AB"),
        }
