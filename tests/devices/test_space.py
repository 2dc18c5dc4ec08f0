from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from instatune_deploy.devices.runs import Run
from instatune_deploy.devices.space import DeploymentSpace

RUNS = tuple(Run(runtime, "fp32", threads) for runtime in ("onnxruntime", "openvino") for threads in (1, 2, 4))
GENES = 5


def shared_out(count: int, runs: int, always: int, per_run: int) -> list[tuple[int, int]]:
    """Pairs of architecture and run; architecture i is a genotype of nothing but i."""
    genotypes = np.repeat(np.arange(count)[:, None], GENES, axis=1)
    space = DeploymentSpace(None, RUNS[:runs])  # type: ignore[arg-type]
    rows = space.shared_out(genotypes, always, per_run)
    assert rows.shape[1] == GENES + 1
    assert (rows[:, :-1] == rows[:, :1]).all()
    return [(int(row[0]), int(row[-1])) for row in rows]


def test_shared_out_by_hand() -> None:
    """Of the four others each run gets every second: 2 and 4, and one further on 3 and 5."""
    assert shared_out(6, runs=2, always=2, per_run=4) == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (3, 1), (4, 0), (5, 1)]
    # three runs, one other each
    assert shared_out(5, runs=3, always=1, per_run=2) == [(0, 0), (0, 1), (0, 2), (1, 0), (2, 1), (3, 2)]


@given(st.integers(1, 20), st.integers(1, 6), st.integers(0, 4), st.integers(1, 30))
def test_every_run_gets_its_share(count: int, runs: int, always: int, per_run: int) -> None:
    pairs = shared_out(count, runs, always, per_run)
    assert pairs == sorted(set(pairs))
    for run in range(runs):
        architectures = [architecture for architecture, of in pairs if of == run]
        assert len(architectures) == min(count, max(per_run, always))
        assert architectures[:always] == list(range(min(always, count)))


@given(st.integers(1, 12), st.integers(1, 6), st.integers(0, 4))
def test_all_is_every_pair(count: int, runs: int, always: int) -> None:
    assert shared_out(count, runs, always, count) == [(item, run) for item in range(count) for run in range(runs)]


@pytest.mark.parametrize("index", range(len(RUNS)))
def test_decode_of_encode(tiny_space: Any, index: int) -> None:
    space = DeploymentSpace(tiny_space, RUNS)
    genotype = space.encode(tiny_space.smallest(), RUNS[index])
    assert space.decode(genotype) == (tiny_space.smallest(), RUNS[index])
    assert (genotype < space.choices).all()
    assert space.choices[-1] == 6
    np.testing.assert_array_equal(space.canonical(genotype[None]), genotype[None])
