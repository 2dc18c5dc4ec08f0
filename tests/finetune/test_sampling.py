from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from instatune_deploy.config import FinetuneSettings
from instatune_deploy.finetune.sampling import (
    BINS,
    CHEAP,
    SAMPLERS,
    Draw,
    Relative,
    alternating,
    cost_bins,
    sandwich,
    shapes,
    step_rng,
    uniform,
)
from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.supernet.shape import ModelShape
from instatune_deploy.supernet.space import SearchSpace

SHAPE = ModelShape(layers=4, heads=4, mlp_width=64, hidden_size=32, head_size=8, fixed_parameters=0, layer_parameters=0)


def no_losses(architecture: Architecture) -> float:
    raise AssertionError("no sampler here looks at losses")


@pytest.fixture(scope="session")
def cost(tiny_space: SearchSpace) -> Relative:
    return Relative(tiny_space, SHAPE)


@pytest.fixture
def draw(tiny_space: SearchSpace, cost: Relative) -> Any:
    def of(step: int = 0, seed: int = 0, count: int = 1) -> Draw:
        return Draw(tiny_space, step_rng(seed, step), step, 100, seed, count, cost, no_losses)

    return of


def test_relative_cost_by_hand(tiny_space: SearchSpace, cost: Relative) -> None:
    one = Architecture((3,), (2,), (16,))
    # a layer: 4 * 32 * 8 * heads + 2 * 128 * 8 * heads + 2 * 32 * width
    of_one, of_full = 3072 * 2 + 64 * 16, 4 * (3072 * 4 + 64 * 64)
    costs = cost(np.stack([tiny_space.encode(one), tiny_space.encode(tiny_space.largest())]))
    np.testing.assert_allclose(costs, [of_one / of_full, 1])


def test_uniform_is_of_the_space(tiny_space: SearchSpace, draw: Any) -> None:
    drawn = [uniform(draw(step)) for step in range(200)]
    assert {len(item) for item in drawn} == {1}
    assert all(item[0] in tiny_space for item in drawn)
    counts = np.bincount([item[0].depth for item in drawn])[1:]
    assert len(counts) == 4
    assert counts.min() > 25  # of 50 expected


def test_sandwich_is_the_smallest_and_uniform_ones(tiny_space: SearchSpace, draw: Any) -> None:
    smallest, *others = sandwich(draw(3, count=2))
    assert smallest == tiny_space.smallest()
    assert others == uniform(draw(3, count=2))


def test_alternating_is_the_smallest_or_a_uniform_one(tiny_space: SearchSpace, draw: Any) -> None:
    drawn = [alternating(draw(step)) for step in range(200)]
    assert {len(item) for item in drawn} == {1}
    assert all(item[0] in tiny_space for item in drawn)
    # half of them, and a few of the others by chance
    assert 80 <= sum(item[0] == tiny_space.smallest() for item in drawn) <= 125


def test_cost_bins_are_equally_likely(tiny_space: SearchSpace, cost: Relative, draw: Any) -> None:
    def bins(architectures: list[Architecture]) -> np.ndarray:
        costs = cost(np.stack([tiny_space.encode(architecture) for architecture in architectures]))
        lowest = float(cost(tiny_space.encode(tiny_space.smallest())[None])[0])
        return np.bincount(np.clip(((costs - lowest) / (1 - lowest) * BINS).astype(int), 0, BINS - 1), minlength=BINS)

    drawn = bins(cost_bins(draw(0, count=2000)))
    assert drawn.min() > 140  # of 200 expected, give or take 13
    assert drawn.max() < 260
    # choices that are uniform themselves leave the expensive ones out
    assert bins(uniform(draw(0, count=2000)))[-1] < 40


def test_shapes_are_in_turns_alike_or_of_any_cost_and_cheap(tiny_space: SearchSpace, cost: Relative, draw: Any) -> None:
    def costs(architectures: list[Architecture]) -> np.ndarray:
        return cost(np.stack([tiny_space.encode(architecture) for architecture in architectures]))

    drawn = [shapes(draw(step)) for step in range(600)]
    assert {len(item) for item in drawn} == {1}
    others, cheap = [item[0] for item in drawn[::2]], [item[0] for item in drawn[1::2]]
    alike = [member for member in others if len(set(member.heads)) == len(set(member.mlp_widths)) == 1]
    assert 0.55 < len(alike) / len(others) < 0.72  # of 0.6 expected, and the few of any cost that are alike by chance
    assert set(alike) >= {tiny_space.largest(), tiny_space.smallest()}
    assert costs([member for member in others if member not in alike]).max() > 0.8
    assert 75 <= sum(member == tiny_space.smallest() for member in cheap) <= 135  # of 100 expected, and a few by chance
    assert costs(cheap).max() <= CHEAP
    assert 0.1 < costs(cheap).mean() < 0.3


def test_shapes_take_turns_over_the_sub_networks_of_all_steps(tiny_space: SearchSpace, cost: Relative, draw: Any) -> None:
    """Three a step: alike, cheap, alike; cheap, alike, cheap; where a place is never above the limit, it is the cheap one's."""
    highest = np.zeros((2, 3))
    for step in range(200):
        costs = cost(np.stack([tiny_space.encode(member) for member in shapes(draw(step, count=3))]))
        highest[step % 2] = np.maximum(highest[step % 2], costs)
    assert (highest > CHEAP).tolist() == [[True, False, True], [False, True, False]]


def test_cost_bins_draw_fast(draw: Any) -> None:
    cost_bins(draw())  # the pool
    start = time.process_time()
    for step in range(100):
        cost_bins(draw(step))
    assert (time.process_time() - start) / 100 < 0.002


@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_a_step_follows_from_seed_and_number_alone(draw: Any, sampler: str) -> None:
    steps = [SAMPLERS[sampler](draw(step, seed=1)) for step in range(30)]
    np.random.seed(5)  # the global generator must not matter
    assert [SAMPLERS[sampler](draw(step, seed=1)) for step in reversed(range(30))] == steps[::-1]
    assert len({item[-1] for item in steps}) > 10
    assert [SAMPLERS[sampler](draw(step, seed=2)) for step in range(30)] != steps


@pytest.mark.parametrize(
    ("sampler", "extra"), [("uniform", 0), ("sandwich", 1), ("cost-bins", 0), ("alternating", 0), ("shapes", 0)]
)
def test_as_many_as_asked_for(draw: Any, sampler: str, extra: int) -> None:
    assert [len(SAMPLERS[sampler](draw(count=count))) for count in (1, 3)] == [1 + extra, 3 + extra]


def test_settings_name_the_samplers_there_are() -> None:
    annotation = FinetuneSettings.model_fields["sampler"].annotation
    assert set(annotation.__args__) == set(SAMPLERS)
