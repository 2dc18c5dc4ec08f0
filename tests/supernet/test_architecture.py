from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instatune_deploy.errors import BadInput
from instatune_deploy.supernet.architecture import Architecture

SMALL = Architecture((0, 2, 5), (4, 2, 1), (16, 16, 8))


@given(st.data())
def test_json_both_ways(any_architecture: Any, data: st.DataObject) -> None:
    architecture = data.draw(any_architecture)
    text = json.dumps(architecture.to_json())
    again = Architecture.from_json(json.loads(text))
    assert again == architecture
    assert hash(again) == hash(architecture)
    assert again.digest == architecture.digest


def test_json_is_what_it_says() -> None:
    assert SMALL.to_json() == {"layers": [0, 2, 5], "heads": [4, 2, 1], "mlp_widths": [16, 16, 8]}


def test_depth_and_text() -> None:
    assert SMALL.depth == 3
    assert str(SMALL) == "3 layers, heads 4-2-1, MLP 16-16-8"
    assert str(Architecture((0, 1), (4, 4), (16, 16))) == "2 layers, heads 4, MLP 16"
    assert str(Architecture((0, 1, 2), (12, 0, 8), (0, 5, 0))) == "3 layers, heads 12-0-8, MLP 0-5-0"
    assert str(Architecture((1,), (2,), (0,))) == "1 layer, heads 2, MLP 0"


def test_per_layer() -> None:
    assert list(SMALL.per_layer()) == [(0, 4, 16), (2, 2, 16), (5, 1, 8)]


@pytest.mark.parametrize(
    "other",
    [
        Architecture((0, 2, 4), (4, 2, 1), (16, 16, 8)),
        Architecture((0, 2, 5), (4, 2, 2), (16, 16, 8)),
        Architecture((0, 2, 5), (4, 2, 1), (16, 16, 4)),
        Architecture((0, 2), (4, 2), (16, 16)),
        Architecture((0, 2, 5), (16, 16, 8), (4, 2, 1)),
    ],
)
def test_others_are_not_equal_and_have_another_digest(other: Architecture) -> None:
    assert other != SMALL
    assert other.digest != SMALL.digest
    assert len(other.digest) == 16


@pytest.mark.parametrize(
    ("layers", "heads", "widths", "message"),
    [
        ((), (), (), "at least one layer"),
        ((0, 1), (1,), (1, 1), "at least one layer"),
        ((0, 1), (1, 1), (1,), "at least one layer"),
        ((1, 0), (1, 1), (1, 1), "must increase"),
        ((1, 1), (1, 1), (1, 1), "must increase"),
        ((-1, 0), (1, 1), (1, 1), "must increase"),
        ((0, 1), (-1, 1), (1, 1), "0 or more"),
        ((0, 1), (1, 1), (1, -1), "0 or more"),
        ((0, 3), (1, 0), (1, 0), "layer 3 has neither heads nor MLP neurons"),
    ],
)
def test_impossible_ones(layers: tuple[int, ...], heads: tuple[int, ...], widths: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Architecture(layers, heads, widths)
    with pytest.raises(BadInput, match="not an architecture: .*" + message):
        Architecture.from_json({"layers": layers, "heads": heads, "mlp_widths": widths})


@pytest.mark.parametrize("value", [{}, {"layers": [0], "heads": [1]}, {"layers": 0, "heads": 1, "mlp_widths": 1}, [1], None])
def test_json_that_is_none(value: Any) -> None:
    with pytest.raises(BadInput, match="not an architecture"):
        Architecture.from_json(value)
