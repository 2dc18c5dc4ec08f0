from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from instatune_deploy.supernet.importance.second_order import removal_order, second_order_importance
from instatune_deploy.supernet.network import SuperNetwork

from .conftest import batch


def random_case(units: int, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A matrix (3, units * size), and second moments of inputs that lean on each other."""
    rng = np.random.default_rng(seed)
    columns = units * size
    inputs = rng.normal(size=(4 * columns, columns)) @ rng.normal(size=(columns, columns))
    return rng.normal(size=(3, columns)), inputs.T @ inputs / len(inputs)


def error(weight: np.ndarray, hessian: np.ndarray, kept: list[int]) -> float:
    """Of the best matrix that reads only these columns, by least squares: mean of |W x - W' x_K|^2."""
    root = np.linalg.cholesky(hessian).T
    best = np.linalg.lstsq(root[:, kept], root @ weight.T, rcond=None)[0]
    return float(np.square(root @ weight.T - root[:, kept] @ best).sum())


def by_brute_force(cases: list[tuple[np.ndarray, np.ndarray]], units: int, size: int) -> list[int]:
    """Every round all units are tried, and the one without which the best matrices err least is removed."""
    present, removed = list(range(units)), []
    while len(present) > 1:
        errors = []
        for unit in present:
            kept = [other * size + i for other in present if other != unit for i in range(size)]
            errors.append(sum(error(weight, hessian, kept) for weight, hessian in cases))
        removed.append(present.pop(int(np.argmin(errors))))
    return removed + present


@settings(max_examples=30)
@given(units=st.integers(1, 6), size=st.integers(1, 3), matrices=st.integers(1, 2), seed=st.integers(0, 10**6))
def test_is_the_greedy_order_of_least_squares_errors(units: int, size: int, matrices: int, seed: int) -> None:
    cases = [random_case(units, size, seed + index) for index in range(matrices)]
    weights, hessians = ([torch.from_numpy(part) for part in parts] for parts in zip(*cases, strict=True))
    assert removal_order(weights, hessians, units) == by_brute_force(cases, units, size)


@pytest.mark.parametrize("rounds", [1, 2, 7])
def test_in_fewer_rounds_the_errors_are_hardly_larger(rounds: int) -> None:
    weight, hessian = random_case(40, 1, seed=5)
    one_by_one = removal_order([torch.from_numpy(weight)], [torch.from_numpy(hessian)], 40, rounds=40)
    order = removal_order([torch.from_numpy(weight)], [torch.from_numpy(hessian)], 40, rounds)
    assert sorted(order) == list(range(40))
    at_random = np.random.default_rng(0).permutation(40).tolist()
    for left in (30, 20, 10):
        exact, quick, chance = (error(weight, hessian, some[-left:]) for some in (one_by_one, order, at_random))
        assert quick < exact + 0.25 * (chance - exact)


def test_of_twins_one_goes_early_and_the_other_stays() -> None:
    rng = np.random.default_rng(1)
    inputs = rng.normal(size=(400, 12))
    inputs[:, 7] = inputs[:, 2] + 1e-3 * rng.normal(size=400)
    weight = rng.normal(size=(5, 12))
    weight[:, [2, 7]] *= 3  # each alone looks important
    hessian = torch.from_numpy(inputs.T @ inputs / 400)
    for rounds in (12, 3):
        order = removal_order([torch.from_numpy(weight)], [hessian], 12, rounds)
        assert {order[0], order[-1]} == {2, 7}


def test_of_a_network_it_is_the_round_of_each_unit(make_network: Callable[..., SuperNetwork]) -> None:
    network = make_network()
    heads, neurons = second_order_importance(network, [batch()])
    assert heads.sort(dim=1).values.tolist() == [[0, 1, 2, 3]] * 2
    assert neurons.sort(dim=1).values.tolist() == [list(range(12))] * 2
    seen: list[np.ndarray] = []
    network.layers[1].attention.self.register_forward_hook(lambda *call: seen.append(call[2][0].double().numpy()))
    with torch.no_grad():
        network(**batch())
    inputs = seen[0][batch()["attention_mask"].bool().numpy()]
    hessian = inputs.T @ inputs / len(inputs)
    hessian += 0.01 * np.diag(hessian).mean() * np.eye(32)
    weight = network.layers[1].attention.output.dense.weight.detach().double().numpy()
    assert heads[1].argsort().tolist() == by_brute_force([(weight, hessian)], 4, 8)
