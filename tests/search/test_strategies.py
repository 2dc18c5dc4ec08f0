"""What all strategies have in common, and what each of them is for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from instatune_deploy.config import SearchSettings
from instatune_deploy.errors import BadInput
from instatune_deploy.search.base import Predicted, rows
from instatune_deploy.search.exhaustive import Exhaustive
from instatune_deploy.search.pareto import hypervolume
from instatune_deploy.search.rounds import Strategy
from instatune_deploy.search.strategies import STRATEGIES, Search, check_strategy

from .conftest import Vectors
from .test_linas import FIRST, SPACE, objectives, truth

NAMES = list(STRATEGIES)


def strategy(name: str, seed: int = 0, limit: float = np.inf, space: Vectors = SPACE, **changes: float) -> Strategy:
    settings = SearchSettings(**{"rounds": 5, "per_round": 7, "stop_gain": 0.0, "population": 40, "generations": 20, **changes})
    return STRATEGIES[name](Search(space, FIRST, np.array([limit, np.inf]), truth, settings, seed))


def run(
    search: Strategy,
    measure: Callable[[np.ndarray], np.ndarray] = objectives,
    lose: Callable[[np.ndarray], np.ndarray] | None = None,
) -> list[np.ndarray]:
    asked = []
    while (wanted := search.ask()) is not None:
        asked.append(wanted)
        kept = wanted if lose is None else lose(wanted)
        search.tell(kept, measure(kept))
    return asked


@pytest.mark.parametrize("name", NAMES)
def test_first_the_design_then_rounds_of_what_is_new(name: str) -> None:
    search = strategy(name)
    asked = run(search)
    assert rows(asked[0]) == rows(SPACE.canonical(FIRST))
    assert all(len(round_) <= 7 for round_ in asked[1:])
    if name != "exhaustive":
        assert 2 <= len(asked) <= 6
    everything = rows(np.concatenate(asked))
    assert len(set(everything)) == len(everything)
    assert (SPACE.canonical(np.concatenate(asked)) == np.concatenate(asked)).all()
    assert (search.objectives == objectives(search.measured)).all()
    assert len(search.volumes) == len(asked)
    assert (np.diff(search.volumes) >= 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_same_for_a_seed(name: str) -> None:
    one, same, other = ([rows(part) for part in run(strategy(name, seed=seed))] for seed in (3, 3, 4))
    assert one == same
    assert (one == other) == (name == "exhaustive")


@pytest.mark.parametrize("name", NAMES)
def test_what_could_not_be_measured_is_not_asked_again(name: str) -> None:
    search = strategy(name)
    asked = run(search, lose=lambda wanted: wanted[::2])
    everything = rows(np.concatenate(asked))
    assert len(set(everything)) == len(everything)
    lost = {row for wanted in asked for row in rows(wanted[1::2])}
    assert lost
    assert not lost & set(rows(search.measured))


@pytest.mark.parametrize("name", NAMES)
def test_a_lost_round_under_limits_that_need_no_measuring(name: str) -> None:
    """The second round is lost whole: an empty list of measurements, as whoever measures would give it."""
    settings = SearchSettings(rounds=4, per_round=7, stop_gain=0.0, population=40, generations=20)
    also = lambda x: np.asarray(SPACE.choices)[x[:, 1].astype(int)][:, None] - 5.0  # noqa: E731 - an index: integers only
    search = STRATEGIES[name](Search(SPACE, FIRST, np.array([40.0, np.inf]), truth, settings, 0, also))
    for number in range(4):
        wanted = search.ask()
        if wanted is None:
            break
        kept = np.array([list(row) for row in wanted if number != 1]).reshape(-1, 5)
        search.tell(kept, objectives(wanted)[: len(kept)])
    assert search.measured.dtype == np.int64


def test_what_is_just_at_a_limit_counts() -> None:
    """An accuracy is a share of rows: many are equal, and those at the limit keep it."""
    search = strategy("random")
    search.limits = np.array([np.inf, 45.0])
    search.tell(FIRST[:2], np.array([[10.0, 50.0], [30.0, 40.0]]))
    search.tell(FIRST[2:3], np.array([[20.0, 45.0]]))
    search.tell(FIRST[3:4], np.array([[15.0, 45.0]]))
    assert search.volumes[0] < search.volumes[1] < search.volumes[2]
    assert search.exceeded(FIRST[:2], np.array([[10.0, 50.0], [30.0, 45.0]])).tolist() == [[0.5], [0.0]]  # of a span of 10


def test_limits_of_what_needs_no_measuring() -> None:
    """What exceeds them is measured when a design has it, and is no progress."""
    also = lambda x: (x[:, :1] - 0.5).astype(float)  # noqa: E731 - the first gene must be 0
    search = STRATEGIES["linas"](
        Search(SPACE, FIRST, np.full(2, np.inf), truth, SearchSettings(rounds=3, stop_gain=0.0), 0, also)
    )
    asked = run(search)
    assert (asked[0][:, 0] == 1).any()
    assert all((wanted[:, 0] == 0).all() for wanted in asked[1:])
    kept = search.measured[:, 0] == 0
    assert search.volumes[-1] == hypervolume(search.objectives[kept], search.reference)


@pytest.mark.parametrize("name", NAMES)
def test_a_small_space_is_measured_whole_at_the_most(name: str) -> None:
    small = Vectors(np.array([2, 4, 1, 1, 4]))
    first = FIRST * (small.choices > 1)
    settings = SearchSettings(rounds=50, per_round=7, stop_gain=0.0, population=20, generations=5)
    search = STRATEGIES[name](Search(small, first, np.full(2, np.inf), truth, settings, 0))
    found = rows(np.concatenate(run(search)))
    assert set(found) <= set(rows(small.all()))
    if name in {"exhaustive", "random"}:
        assert len(found) == 32


def test_predictors_beat_generations_and_those_chance() -> None:
    """After the same number of measurements; medians over seeds, of a space in which a few in a thousand are on the front."""
    space = Vectors(np.full(8, 4))
    rng = np.random.default_rng(5)
    cost, gain = rng.uniform(0.5, 4, 8), rng.uniform(0.5, 4, 8)

    def worth(genotypes: np.ndarray) -> np.ndarray:
        return np.column_stack([1 + genotypes @ cost, 50 - np.sqrt(genotypes) @ gain])

    def volume(name: str, seed: int) -> float:
        settings = SearchSettings(rounds=8, per_round=8, stop_gain=0.0, population=60, generations=30)
        first = np.random.default_rng(seed).integers(0, 4, (16, 8))
        fit = lambda *_: Predicted(worth, lambda x: np.zeros((len(x), 2)))  # noqa: E731
        search = STRATEGIES[name](Search(space, first, np.full(2, np.inf), fit, settings, seed))
        run(search, worth)
        return hypervolume(search.objectives, np.array([90.0, 51.0]))

    medians = {name: np.median([volume(name, seed) for seed in range(3)]) for name in ("linas", "nsga2", "random")}
    assert medians["linas"] > medians["nsga2"] > medians["random"]


def test_children_are_of_those_that_keep_the_limit() -> None:
    """Plain NSGA-II with a limit ends up with more that keep it than without."""

    def kept(limit: float) -> float:
        asked = np.concatenate(run(strategy("nsga2", limit=limit, rounds=8))[3:])
        return float(np.mean(objectives(asked)[:, 0] <= 8.0))

    assert kept(8.0) > kept(np.inf)


def test_exhaustive_refuses_what_is_too_large() -> None:
    with pytest.raises(BadInput, match=r"the space has 1\.05e\+06 genotypes, more than 100000; take 'linas', or a smaller space"):
        Exhaustive(Vectors(np.full(10, 4)), np.zeros((1, 10), dtype=np.int64), np.full(2, np.inf), per_round=5)


def test_a_strategy_that_cannot_search_a_space_is_refused_before_anything_is_trained() -> None:
    deep = Vectors(np.array([2] + [1] * 70))
    for name in STRATEGIES:
        check_strategy(name, deep)
    assert (
        len(run(Exhaustive(deep, np.zeros((1, 71), dtype=np.int64), np.full(2, np.inf), per_round=5), lambda x: x[:, :2] + 1.0))
        == 2
    )
    check_strategy("linas", Vectors(np.full(40, 4)))
    with pytest.raises(BadInput, match="the space has"):
        check_strategy("exhaustive", Vectors(np.full(40, 4)))


def test_settings_name_the_strategies_there_are() -> None:
    assert set(SearchSettings.model_fields["strategy"].annotation.__args__) == set(STRATEGIES)
