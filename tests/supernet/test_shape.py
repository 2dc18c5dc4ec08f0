from __future__ import annotations

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.supernet.shape import ModelShape

BERT_BASE = ModelShape(layers=12, heads=12, mlp_width=3072, hidden_size=768, head_size=64, fixed_parameters=0, layer_parameters=0)
SMALL = ModelShape(layers=2, heads=2, mlp_width=5, hidden_size=4, head_size=2, fixed_parameters=100, layer_parameters=10)


def test_bert_base_has_11_17_billion_macs() -> None:
    expected = 12 * (4 * 128 * 768 * 768 + 2 * 128 * 128 * 768 + 2 * 128 * 768 * 3072)
    assert expected == 11_173_625_856
    assert BERT_BASE.macs_of(BERT_BASE.full(), 128) == expected


def test_macs_by_hand() -> None:
    # layer 0, two heads (4 columns), 3 tokens: projections 4*3*4*4 = 192, attention 2*3*3*4 = 72, MLP 2*3*4*5 = 120
    # layer 1, one head (2 columns):            projections 4*3*4*2 = 96,  attention 2*3*3*2 = 36, MLP 2*3*4*1 = 24
    assert SMALL.macs_of(Architecture((0, 1), (2, 1), (5, 1)), 3) == 384 + 156
    assert SMALL.macs_of(Architecture((1,), (1,), (1,)), 3) == 156


def test_parameters_by_hand() -> None:
    # layer 0: four matrices 4*4*4 = 64, three biases 12; MLP 2*4*5 = 40, bias 5; and 10
    # layer 1: four matrices 4*4*2 = 32, three biases 6;  MLP 2*4*1 = 8, bias 1;   and 10
    assert SMALL.parameters_of(Architecture((0, 1), (2, 1), (5, 1))) == 100 + 131 + 57
    assert SMALL.parameters_of(Architecture((0,), (1,), (1,))) == 100 + 57
    # without heads, or without MLP, the layer's other parameters stay
    assert SMALL.parameters_of(Architecture((0, 1), (0, 1), (5, 0))) == 100 + (45 + 10) + (38 + 10)
    assert SMALL.macs_of(Architecture((0, 1), (0, 1), (5, 0)), 3) == 120 + 132


@given(st.data())
def test_absent_layers_cost_nothing(any_architecture: st.SearchStrategy[Architecture], data: st.DataObject) -> None:
    shape = ModelShape(layers=4, heads=4, mlp_width=64, hidden_size=32, head_size=8, fixed_parameters=7, layer_parameters=3)
    architectures = [data.draw(any_architecture) for _ in range(3)]
    heads, widths = np.zeros((2, 3, 4), dtype=np.int64)
    for row, architecture in enumerate(architectures):
        heads[row, list(architecture.layers)] = architecture.heads
        widths[row, list(architecture.layers)] = architecture.mlp_widths
    assert shape.macs(heads, widths, 16).tolist() == [shape.macs_of(item, 16) for item in architectures]
    assert shape.parameters(heads, widths).tolist() == [shape.parameters_of(item) for item in architectures]


def test_full_and_json() -> None:
    assert SMALL.full() == Architecture((0, 1), (2, 2), (5, 5))
    assert ModelShape(**json.loads(json.dumps(SMALL.to_json()))) == SMALL
