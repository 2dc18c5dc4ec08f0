"""What holds of every family."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from torch import nn

from instatune_deploy.errors import BadInput
from instatune_deploy.supernet.families import FAMILIES, family_of
from instatune_deploy.supernet.families.base import Family


@pytest.mark.parametrize(("family", "model_type"), [(family, name) for family in FAMILIES for name in family.model_types])
def test_paths_name_linears_of_the_right_shape(make_model: Callable[..., Any], family: Family, model_type: str) -> None:
    model = make_model(model_type)
    assert model.config.model_type == model_type
    layers = getattr(model, model.base_model_prefix).get_submodule(family.layers)
    assert isinstance(layers, nn.ModuleList)
    sizes = [
        *((path, 32, 32) for path in (*family.heads_out, *family.heads_in)),
        *((path, 32, 64) for path in family.mlp_out),
        *((path, 64, 32) for path in family.mlp_in),
    ]
    for layer in layers:
        for path, inputs, outputs in sizes:
            linear = layer.get_submodule(path)
            assert isinstance(linear, nn.Linear)
            assert (linear.in_features, linear.out_features) == (inputs, outputs)
        # nothing else in a layer depends on heads or MLP width
        assert {name for name, module in layer.named_modules() if isinstance(module, nn.Linear)} == {path for path, *_ in sizes}


def test_unknown_type_names_place_and_known_ones() -> None:
    known = "bert, roberta, xlm-roberta, camembert, electra, vit, deit"
    with pytest.raises(BadInput, match=rf"^some/model: model type 'gpt2' is not supported; supported are: {known}$"):
        family_of("gpt2", "some/model")
