from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from instatune_deploy.supernet.beit3.multiway import Multiway, joined, lengths_of, parted

LENGTHS = st.one_of(
    st.fixed_dictionaries({"A": st.integers(1, 5)}),
    st.fixed_dictionaries({"B": st.integers(1, 5)}),
    st.fixed_dictionaries({"A": st.integers(1, 5), "B": st.integers(1, 5)}),
)


@given(lengths=LENGTHS)
def test_what_is_joined_can_be_parted(lengths: dict[str, int]) -> None:
    streams = {way: torch.randn(2, tokens, 3) for way, tokens in lengths.items()}
    assert lengths_of(streams) == lengths
    again = parted(joined(streams), lengths)
    assert list(again) == list(streams)
    assert all(torch.equal(again[way], streams[way]) for way in streams)


def test_the_image_comes_first() -> None:
    streams = {"A": torch.zeros(1, 2, 1), "B": torch.ones(1, 3, 1)}
    assert joined(streams).flatten().tolist() == [0, 0, 1, 1, 1]


def test_each_way_has_weights_of_its_own() -> None:
    module = Multiway(lambda: nn.Linear(1, 1), ("A", "B"))
    assert sorted(module.state_dict()) == ["A.bias", "A.weight", "B.bias", "B.weight"]
    with torch.no_grad():
        for way, weight, bias in (("A", 2.0, 1.0), ("B", 10.0, 0.0)):
            module[way].weight.fill_(weight)
            module[way].bias.fill_(bias)
    found = module({"A": torch.full((1, 1, 1), 3.0), "B": torch.full((1, 2, 1), 3.0)})
    assert found["A"].flatten().tolist() == [7]
    assert found["B"].flatten().tolist() == [30, 30]
    assert list(module({"B": torch.zeros(1, 1, 1)})) == ["B"]
