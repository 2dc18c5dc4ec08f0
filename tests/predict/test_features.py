from __future__ import annotations

import numpy as np

from instatune_deploy.predict.features import feature_names, features
from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.supernet.shape import ModelShape
from instatune_deploy.supernet.space import SearchSpace

SPACE = SearchSpace(layers=2, depths=(1, 2), heads=(1, 2), mlp_widths=(2, 4))
SHAPE = ModelShape(layers=2, heads=2, mlp_width=4, hidden_size=8, head_size=4, fixed_parameters=100, layer_parameters=10)


def test_by_hand() -> None:
    # depth 1 keeps the second layer; its heads are 2, its width 2
    one_layer = [0, 0, 1, 1, 0]
    # MACs of it: 4 * 3 * 8 * 8 (projections) + 2 * 3 * 3 * 8 (products) + 2 * 3 * 8 * 2 (MLP) = 1008
    # parameters: 4 * 8 * 8 + 3 * 8 (attention) + 17 * 2 (MLP) + 10 + 100 = 424
    two_layers = [1, 0, 1, 0, 1]
    # first layer: 384 + 72 + 96 = 552 MACs, 140 + 34 + 10 parameters; second: 768 + 144 + 192 = 1104, 280 + 68 + 10
    assert feature_names(SPACE) == [
        "heads_0", "heads_1", "mlp_width_0", "mlp_width_1", "depth", "heads", "mlp_widths", "macs", "parameters",
    ]  # fmt: skip
    rows = features(SPACE, SHAPE, np.array([one_layer, two_layers]), tokens=3)
    assert rows.dtype == np.float64
    assert rows.tolist() == [
        [0, 2, 0, 2, 1, 2, 2, 1008, 424],
        [1, 2, 2, 4, 2, 3, 6, 1656, 642],
    ]


def test_equal_networks_have_equal_features() -> None:
    """Genes of an absent layer say nothing."""
    rows = features(SPACE, SHAPE, np.array([[0, 0, 1, 0, 1], [0, 1, 1, 1, 1]]), tokens=3)
    assert rows[0].tolist() == rows[1].tolist()


def test_attentions_and_mlps_are_counted_where_they_may_be_gone() -> None:
    space = SearchSpace(layers=2, depths=(1, 2), heads=(0, 1, 2), mlp_widths=(0, 4))
    rows = np.array([space.encode(Architecture((0, 1), (0, 2), (4, 0))), space.encode(Architecture((0, 1), (1, 1), (4, 0)))])
    assert feature_names(space)[4:] == ["depth", "heads", "mlp_widths", "macs", "parameters", "attentions", "mlps"]
    found = features(space, SHAPE, rows, tokens=3)
    # 4 * 3 * 8 * 8 + 2 * 3 * 3 * 8 = 912 and 2 * 3 * 8 * 4 = 192; 4 * 8 * 8 + 3 * 8 = 280 and 17 * 4 = 68, 10 each, 100
    assert found[0].tolist() == [0, 2, 4, 0, 2, 2, 4, 912 + 192, 280 + 68 + 20 + 100, 1, 1]
    assert found[1, -2:].tolist() == [2, 1]
    only_heads = SearchSpace(layers=2, depths=(1, 2), heads=(0, 1, 2), mlp_widths=(2, 4))
    assert feature_names(only_heads)[-2:] == ["parameters", "attentions"]
    assert features(only_heads, SHAPE, rows * 0, tokens=3).shape == (2, len(feature_names(only_heads)))


def test_no_networks() -> None:
    assert features(SPACE, SHAPE, np.empty((0, 5), dtype=np.int64), tokens=3).shape == (0, 9)
