from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from instatune_deploy.config import SearchSettings
from instatune_deploy.devices.runs import Run
from instatune_deploy.pipeline.bench import Bench
from instatune_deploy.pipeline.search import Searcher
from instatune_deploy.supernet.shape import ModelShape
from instatune_deploy.supernet.space import SearchSpace

SPACE = SearchSpace(4, (2, 3, 4), (0, 2, 4), (0, 16, 40, 48, 70))


@pytest.mark.parametrize(("multiple", "widths"), [(None, (0, 16, 40, 48, 70)), (16, (0, 16, 48, 70)), (64, (0, 70))])
def test_a_device_is_searched_at_the_widths_it_computes_well(multiple: int | None, widths: tuple[int, ...]) -> None:
    """The full width and none stay, whatever they are multiples of; all that is proposed is of the super-network's space."""
    shape = ModelShape(layers=4, heads=4, mlp_width=70, hidden_size=32, head_size=8, fixed_parameters=0, layer_parameters=0)
    runs = (Run("onnxruntime", "fp32", 1), Run("openvino", "fp32", 1))
    settings = SimpleNamespace(width_multiple=multiple, image_size=None)
    device: Any = SimpleNamespace(runs=runs, sequence_length=16, settings=settings)
    supernet: Any = SimpleNamespace(space=SPACE, shape=shape)
    bench = Bench(None, supernet, device, None)  # type: ignore[arg-type]
    searcher = Searcher(bench, SearchSettings(initial=30), None, 0, None)  # type: ignore[arg-type]
    design = [searcher.space.decode(row)[0] for row in searcher.design()]
    assert {width for architecture in design for width in architecture.mlp_widths} == set(widths)
    assert all(architecture in SPACE for architecture in design)
    assert {SPACE.largest(), searcher.architectures.smallest()} <= set(design)
