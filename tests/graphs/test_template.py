from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from instatune_deploy.graphs.carve import carve
from instatune_deploy.graphs.export import export_template
from instatune_deploy.graphs.fuse import fuse_template
from instatune_deploy.graphs.template import Template
from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.supernet.network import SuperNetwork

from .conftest import Case


@pytest.mark.parametrize("variant", ["plain", "fused"])
def test_save_and_load(bert: Case, variant: str, tmp_path: Path) -> None:
    template: Template = getattr(bert, variant)
    template.save(tmp_path, "some-name")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["some-name.json", "some-name.onnx", "some-name.weights"]
    loaded = Template.load(tmp_path, "some-name")
    assert loaded.model == template.model
    for field in ("shape", "boundaries", "cuts", "remainders", "attention", "structure"):
        assert getattr(loaded, field) == getattr(template, field)
    architecture = Architecture((0, 3), (1, 2), (3, 4))
    assert carve(loaded, architecture) == carve(template, architecture)


@pytest.fixture(scope="module")
def structures(make_model: Callable[..., Any]) -> Callable[..., tuple[str, str]]:
    """The structures of a one-layer network's templates, plain and fused."""

    def of(rows: int = 2, tokens: int = 12, **changes: Any) -> tuple[str, str]:
        network = SuperNetwork(make_model(**{"num_hidden_layers": 1, **changes}))
        inputs = {name: torch.ones(rows, tokens, dtype=torch.int64) for name in ("input_ids", "attention_mask")}
        plain = export_template(network, inputs)
        return plain.structure, fuse_template(plain, network.family).structure

    return of


@pytest.fixture(scope="module")
def base(structures: Callable[..., tuple[str, str]]) -> tuple[str, str]:
    return structures()


def test_structure_does_not_depend_on_the_values_of_weights(structures: Any, base: tuple[str, str]) -> None:
    assert structures(seed=1) == base
    assert base[0] != base[1]
    assert [len(item) for item in base] == [16, 16]


@pytest.mark.parametrize(
    "changes",
    [
        {"num_hidden_layers": 2},
        {"num_attention_heads": 2},
        {"intermediate_size": 63},
        {"hidden_act": "relu"},
        {"rows": 3},
        {"tokens": 11},
    ],
)
def test_structure_depends_on_the_network_and_its_inputs(structures: Any, base: tuple[str, str], changes: dict[str, Any]) -> None:
    plain, fused = structures(**changes)
    assert len({plain, fused, *base}) == 4


def test_structure_depends_on_shapes_held_in_initialisers(bert: Case) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(bert.plain.model)
    item = next(item for item in model.graph.initializer if -1 in numpy_helper.to_array(item).reshape(-1).tolist())
    item.CopyFrom(numpy_helper.from_array(np.where((old := numpy_helper.to_array(item)) == -1, 7, old), item.name))
    assert Template(model, bert.plain.shape, bert.plain.boundaries, bert.plain.cuts, ()).structure != bert.plain.structure


@pytest.mark.parametrize("part", ["tensor", "bias"])
def test_a_graph_that_lost_what_carving_needs(bert: Case, part: str) -> None:
    remainders = ((replace(bert.plain.remainders[0][0], **{part: "elsewhere"}),),)
    with pytest.raises(RuntimeError, match=r"^the graph has no elsewhere$"):
        replace(bert.plain, remainders=remainders)
