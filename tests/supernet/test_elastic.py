from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from instatune_deploy.supernet.elastic import ElasticAttention, ElasticLayers, ElasticLinear, NoHeads


def elastic(bias: bool = True) -> tuple[nn.Linear, ElasticLinear]:
    linear = nn.Linear(5, 4, bias=bias)
    with torch.no_grad():
        for index, parameter in enumerate(linear.parameters()):
            parameter.copy_(torch.arange(parameter.numel()).reshape(parameter.shape) + 10 * index)
    return linear, ElasticLinear.of(linear)


def test_shares_parameters_and_names() -> None:
    linear, made = elastic()
    assert made.weight is linear.weight
    assert made.bias is linear.bias
    assert list(made.state_dict()) == ["weight", "bias"]
    hidden = torch.randn(3, 5)
    torch.testing.assert_close(made(hidden), linear(hidden))


def test_prefix_by_hand() -> None:
    _, made = elastic()
    made.active_in, made.active_out = 2, 3
    # rows of the weight: 0 1 .., 5 6 .., 10 11 ..; bias 10 11 12
    assert made(torch.tensor([[1.0, 2.0]])).tolist() == [[0 + 2 + 10, 5 + 12 + 11, 10 + 22 + 12]]


@given(st.integers(0, 5), st.integers(0, 4), st.booleans())
def test_extract_computes_the_same_with_its_own_weights(active_in: int, active_out: int, bias: bool) -> None:
    linear, made = elastic(bias)
    made.active_in, made.active_out = active_in, active_out
    small = made.extract()
    assert type(small) is nn.Linear
    assert (small.in_features, small.out_features) == (active_in, active_out)
    assert (small.bias is not None) == bias
    hidden = torch.randn(2, 3, active_in)
    expected = made(hidden)
    torch.testing.assert_close(small(hidden), expected)
    with torch.no_grad():
        linear.weight.fill_(0)
    torch.testing.assert_close(small(hidden), expected)


def test_inactive_part_gets_no_gradient() -> None:
    _, made = elastic()
    made.active_in, made.active_out = 2, 3
    made(torch.ones(1, 2)).sum().backward()
    assert made.weight.grad is not None
    assert made.bias.grad is not None
    assert made.weight.grad.bool().tolist() == [[True, True, False, False, False]] * 3 + [[False] * 5]
    assert made.bias.grad.tolist() == [1, 1, 1, 0]


def test_layers_iterate_only_the_active_ones() -> None:
    plain = nn.ModuleList(nn.Linear(1, 1) for _ in range(4))
    layers = ElasticLayers(plain)
    assert list(layers) == list(plain)
    layers.active = (0, 3)
    assert list(layers) == [plain[0], plain[3]]
    assert len(layers) == 4
    assert layers[2] is plain[2]
    assert list(layers.state_dict()) == list(plain.state_dict())


@pytest.mark.parametrize("bf16", [False, True])
def test_without_columns_the_bias_is_left(bf16: bool) -> None:
    _, made = elastic()
    made.active_in = 0
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        output = made(torch.empty(2, 3, 0))
    assert output.dtype == (torch.bfloat16 if bf16 else torch.float32)
    assert output.shape == (2, 3, 4)
    assert (output == torch.tensor([10.0, 11, 12, 13])).all()
    output.sum().backward()
    assert made.bias.grad.tolist() == [6, 6, 6, 6]
    assert made.weight.grad is None or not made.weight.grad.any()


def test_extracting_nothing_warns_of_nothing() -> None:
    _, made = elastic()
    made.active_in = made.active_out = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small = made.extract()
    assert [tuple(value.shape) for value in small.state_dict().values()] == [(0, 0), (0,)]


class Doubled(nn.Module):
    """An attention that counts how often it is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Linear(4, 6)
        self.runs = 0

    def forward(self, hidden_states: torch.Tensor, mask: Any = None, scale: float = 1.0) -> tuple[torch.Tensor, str]:
        self.runs += 1
        return scale * self.value(hidden_states), "weights"


def test_attention_computes_what_it_did_or_nothing() -> None:
    module = Doubled()
    names, hidden = list(module.state_dict()), torch.randn(2, 3, 4)
    made = ElasticAttention.of(module)
    assert made is module
    assert isinstance(made, Doubled)
    assert type(made) is type(ElasticAttention.of(Doubled()))
    assert list(made.state_dict()) == names
    output, weights = made(hidden, None, scale=2.0)
    torch.testing.assert_close(output, 2 * module.value(hidden))
    assert (weights, module.runs) == ("weights", 1)
    made.active = False
    output, weights = copy.deepcopy(made)(hidden.bfloat16(), None, scale=2.0)
    assert (output.shape, output.dtype, weights, module.runs) == ((2, 3, 0), torch.bfloat16, None, 1)


def test_extracted_attention_is_ordinary() -> None:
    made = ElasticAttention.of(Doubled())
    made.active = False
    assert type(made.extract()) is NoHeads
    made.active = True
    assert type(made.extract()) is Doubled
    assert "active" not in vars(made)
