from __future__ import annotations

import numpy as np
import pytest

from instatune_deploy.config import FinetuneSettings
from instatune_deploy.finetune.sampling import SAMPLERS, alternating, sample_step, sandwich, uniform
from instatune_deploy.supernet.space import SearchSpace


def test_uniform_is_one_of_the_space(tiny_space: SearchSpace) -> None:
    drawn = [uniform(tiny_space, np.random.default_rng(seed)) for seed in range(200)]
    assert {len(item) for item in drawn} == {1}
    assert all(item[0] in tiny_space for item in drawn)
    counts = np.bincount([item[0].depth for item in drawn])[1:]
    assert len(counts) == 4
    assert counts.min() > 25  # of 50 expected


def test_sandwich_is_the_smallest_and_one_uniform(tiny_space: SearchSpace) -> None:
    smallest, other = sandwich(tiny_space, np.random.default_rng(3))
    assert smallest == tiny_space.smallest()
    assert [other] == uniform(tiny_space, np.random.default_rng(3))


def test_alternating_is_the_smallest_or_one_uniform(tiny_space: SearchSpace) -> None:
    drawn = [alternating(tiny_space, np.random.default_rng(seed)) for seed in range(200)]
    assert {len(item) for item in drawn} == {1}
    assert all(item[0] in tiny_space for item in drawn)
    # half of them, and a few of the others by chance
    assert 80 <= sum(item[0] == tiny_space.smallest() for item in drawn) <= 125


@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_a_step_follows_from_seed_and_number_alone(tiny_space: SearchSpace, sampler: str) -> None:
    steps = [sample_step(sampler, tiny_space, 1, step) for step in range(30)]
    np.random.seed(5)  # the global generator must not matter
    assert [sample_step(sampler, tiny_space, 1, step) for step in reversed(range(30))] == steps[::-1]
    assert len({item[-1] for item in steps}) > 10
    assert [sample_step(sampler, tiny_space, 2, step) for step in range(30)] != steps


def test_settings_name_the_samplers_there_are() -> None:
    annotation = FinetuneSettings.model_fields["sampler"].annotation
    assert set(annotation.__args__) == set(SAMPLERS)
