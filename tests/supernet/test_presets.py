from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest

from instatune_deploy.config import SpaceSettings
from instatune_deploy.supernet.families import FAMILIES
from instatune_deploy.supernet.presets import PAPER, PRESETS, preset_for
from instatune_deploy.supernet.shape import ModelShape
from instatune_deploy.supernet.space import SearchSpace

BASE = ModelShape(layers=12, heads=12, mlp_width=3072, hidden_size=768, head_size=64, fixed_parameters=0, layer_parameters=0)
"""BERT-base, ViT-B/16 and BEiT-3 base agree in these."""
MINILM = replace(BASE, layers=6, mlp_width=1536, hidden_size=384, head_size=32)
PAPER_HEADS = (6, 8, 10, 12)


@pytest.mark.parametrize(
    ("preset", "depths", "heads", "widths"),
    [
        # arXiv 2308.15609
        ("paper-bert", (6, 7, 8, 9, 10, 11, 12), PAPER_HEADS, (1024, 2048, 3072)),
        ("paper-vit", (11, 12), PAPER_HEADS, (2048, 2560, 3072)),
        ("paper-beit3", (11, 12), PAPER_HEADS, (2048, 2560, 3072)),
        ("wide", (4, 5, 6, 7, 8, 9, 10, 11, 12), (0, 3, 6, 9, 12), (0, 768, 1536, 2304, 3072)),
    ],
)
def test_base_models(preset: str, depths: tuple[int, ...], heads: tuple[int, ...], widths: tuple[int, ...]) -> None:
    assert SearchSpace.of(BASE, SpaceSettings(preset=preset)) == SearchSpace(12, depths, heads, widths)  # type: ignore[arg-type]


def test_wide_of_minilm() -> None:
    space = SearchSpace.of(MINILM, SpaceSettings(preset="wide"))
    assert space == SearchSpace(6, (2, 3, 4, 5, 6), (0, 3, 6, 9, 12), (0, 384, 768, 1152, 1536))
    # five layers of 24 kinds or none; the last one is there, with one of four numbers of heads
    assert space.count() == 25**5 * 4 * 5


def test_what_is_given_stands_and_the_preset_says_the_rest() -> None:
    settings = SpaceSettings(preset="wide", heads=[0, 5], depths=[12])
    assert SearchSpace.of(BASE, settings) == SearchSpace(12, (12,), (0, 5, 12), (0, 768, 1536, 2304, 3072))


@pytest.mark.parametrize(
    ("width", "multiple", "widths"),
    [
        (3072, 1, (1024, 2048, 3072)),
        (4096, 32, (1376, 2720, 4096)),  # 1365.3 = 42.7 * 32, 2730.7 = 85.3 * 32
        (4096, 64, (1344, 2752, 4096)),  # 21.3, 42.7
        (4000, 512, (1536, 2560, 4000)),  # 2.6, 5.2; the full one stays
        (100, 32, (33, 67, 100)),  # less than four times 32
        (128, 32, (32, 96, 128)),  # 1.3, 2.7
    ],
)
def test_widths_are_multiples(width: int, multiple: int, widths: tuple[int, ...]) -> None:
    settings = SpaceSettings(preset="paper-bert", width_multiple=multiple)
    assert SearchSpace.of(replace(BASE, mlp_width=width), settings).mlp_widths == widths


def test_the_papers_own_is_the_familys() -> None:
    for family in FAMILIES:
        assert preset_for(PAPER, replace(BASE, family=family.name)) is PRESETS[family.paper]
    assert preset_for("paper", BASE) is PRESETS["paper-bert"]
    assert preset_for("wide", BASE) is PRESETS["wide"]


def test_settings_name_the_presets_there_are() -> None:
    assert set(get_args(SpaceSettings.model_fields["preset"].annotation)) == {PAPER, *PRESETS}


def test_a_model_of_one_of_everything() -> None:
    tiny = ModelShape(1, 1, 1, 1, 1, 0, 0)
    assert SearchSpace.of(tiny, SpaceSettings()) == SearchSpace(1, (1,), (1,), (1,))
    assert SearchSpace.of(tiny, SpaceSettings(preset="wide")) == SearchSpace(1, (1,), (0, 1), (0, 1))
