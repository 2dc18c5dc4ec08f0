from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from instatune_deploy.search.base import Predicted, rows
from instatune_deploy.search.gain import gains
from instatune_deploy.search.linas import Linas
from instatune_deploy.search.pareto import hypervolume

from .conftest import Switched

SPACE = Switched(np.array([2, 4, 4, 4, 4]))
COST = np.array([3.0, 1.0, 2.5, 4.0, 0.5])
GAIN = np.array([2.0, 1.0, 4.0, 2.0, 0.75])
FIRST = np.array([[1, 3, 3, 3, 3], [0, 0, 0, 0, 0], [1, 0, 0, 0, 0], [0, 3, 3, 3, 3]])


def objectives(genotypes: np.ndarray) -> np.ndarray:
    return np.column_stack([1 + genotypes @ COST, 50 - np.sqrt(genotypes) @ GAIN])


def certain(genotypes: np.ndarray) -> np.ndarray:
    return np.zeros((len(genotypes), 2))


def truth(measured: np.ndarray, values: np.ndarray) -> Predicted:
    """Predictors that know."""
    return Predicted(objectives, certain)


def strategy(fit: Callable[[np.ndarray, np.ndarray], Predicted] = truth, limit: float = np.inf, **changes: float) -> Linas:
    settings = {"rounds": 4, "per_round": 6, "stop_gain": 0.0, "population": 40, "generations": 20, "seed": 0, **changes}
    return Linas(SPACE, fit, FIRST, np.array([limit, np.inf]), **settings)  # type: ignore[arg-type]


def run(linas: Linas, measure: Callable[[np.ndarray], np.ndarray] = objectives) -> list[np.ndarray]:
    asked = []
    while (wanted := linas.ask()) is not None:
        asked.append(wanted)
        linas.tell(wanted, measure(wanted))
    return asked


def test_first_the_design_then_rounds() -> None:
    asked = run(strategy())
    assert rows(asked[0]) == rows(SPACE.canonical(FIRST))
    assert len(asked) == 1 + 4
    assert all(len(round_) <= 6 for round_ in asked[1:])


def test_nothing_is_asked_twice() -> None:
    """Two vectors of one thing are one: `FIRST` may name it twice."""
    doubled = np.concatenate([FIRST, [[0, 0, 0, 1, 2]]])  # the last two genes say nothing here
    linas = Linas(SPACE, truth, doubled, np.full(2, np.inf), rounds=4, per_round=6, stop_gain=0, population=40,
                  generations=20, seed=0)  # fmt: skip
    asked = np.concatenate(run(linas))
    assert (SPACE.canonical(asked) == asked).all()
    assert len(set(rows(asked))) == len(asked)
    assert len(linas.measured) == len(asked)


def test_finds_the_front() -> None:
    linas = strategy(rounds=20, per_round=10)
    run(linas)
    every = SPACE.all()
    reference = objectives(every).max(axis=0) + 1
    best = hypervolume(objectives(every), reference)
    assert hypervolume(linas.objectives, reference) > 0.99 * best
    assert (linas.objectives == objectives(linas.measured)).all()
    assert (np.diff(linas.volumes) >= 0).all()


@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_at_most_so_many_rounds(rounds: int) -> None:
    assert len(run(strategy(rounds=rounds))) == 1 + rounds


def test_stops_when_the_front_stands_still() -> None:
    """What is proposed turns out worse than all before: one round of that is enough."""
    measured: list[int] = []

    def disappointing(genotypes: np.ndarray) -> np.ndarray:
        measured.append(len(genotypes))
        return objectives(genotypes) + (1000 if len(measured) > 1 else 0)

    linas = strategy(stop_gain=0.005)
    assert len(run(linas, disappointing)) == 2
    assert linas.volumes[0] == linas.volumes[1]


def test_what_could_not_be_measured_is_left_out_and_not_asked_again() -> None:
    linas = strategy()
    asked = []
    seen: list[tuple[np.ndarray, np.ndarray]] = []

    def fit(measured: np.ndarray, values: np.ndarray) -> Predicted:
        seen.append((measured, values))
        return truth(measured, values)

    linas.fit = fit
    while (wanted := linas.ask()) is not None:
        asked.append(wanted)
        linas.tell(wanted[::2], objectives(wanted[::2]))
    assert len(asked) > 2
    everything = rows(np.concatenate(asked))
    assert len(set(everything)) == len(everything)
    lost = {row for wanted in asked for row in rows(wanted[1::2])}
    assert lost
    for measured, values in seen:
        assert not lost & set(rows(measured))
        assert (values == objectives(measured)).all()


def test_a_round_of_which_nothing_could_be_measured_is_the_last() -> None:
    linas = strategy(stop_gain=0.005)
    first = linas.ask()
    assert first is not None
    linas.tell(first, objectives(first))
    second = linas.ask()
    assert second is not None
    linas.tell(second[:0], objectives(second[:0]))
    assert linas.ask() is None
    assert rows(linas.measured) == rows(first)


def test_proposals_keep_the_limit() -> None:
    asked = run(strategy(limit=12.0))
    assert len(asked) > 1
    for wanted in asked[1:]:
        assert objectives(wanted)[:, 0].max() <= 12.0
    kept = SPACE.all()
    kept = kept[objectives(kept)[:, 0] <= 12.0]
    best = objectives(kept)[:, 1].min()
    found = np.concatenate(asked)
    assert objectives(found[objectives(found)[:, 0] <= 12.0])[:, 1].min() == pytest.approx(best)


def test_what_comes_nearest_is_asked_for_when_nothing_is_predicted_to_keep_the_limit() -> None:
    asked = run(strategy(limit=0.5, per_round=3, rounds=2))
    assert 2 <= len(asked) <= 3
    fastest = objectives(SPACE.all())[:, 0].min()
    known = objectives(np.concatenate(asked))[:, 0]
    assert known.min() == fastest > 0.5
    assert all(len(round_) <= 3 for round_ in asked[1:])


def test_a_round_is_what_gains_most_together() -> None:
    """Of everything there is, by looking at all: the first proposal gains most, and none of a round is in another's shadow."""
    linas = strategy(per_round=3, population=200)
    first = linas.ask()
    assert first is not None
    linas.tell(first, objectives(first))
    proposed = linas.ask()
    assert proposed is not None
    assert len(proposed) == 3
    every = SPACE.all()
    gained = gains(linas.objectives, objectives(every), linas.reference)
    assert gains(linas.objectives, objectives(proposed[:1]), linas.reference)[0] == pytest.approx(gained.max())
    together = hypervolume(np.concatenate([linas.objectives, objectives(proposed)]), linas.reference) - linas.volumes[0]
    at_once = every[np.argsort(-gained, kind="stable")[:3]]
    alone = hypervolume(np.concatenate([linas.objectives, objectives(at_once)]), linas.reference) - linas.volumes[0]
    assert together > alone


def test_the_end_of_the_limit_is_asked_for_in_every_round() -> None:
    """The most accurate that keeps it: what somebody wants who names a limit."""
    linas = strategy(limit=12.0, per_round=1, rounds=1, population=200)
    asked = run(linas)
    every = SPACE.all()
    unseen = np.array([row for row in rows(every) if row not in set(rows(asked[0]))])
    kept = unseen[objectives(unseen)[:, 0] <= 12.0]
    assert objectives(asked[1])[0, 1] == objectives(kept)[:, 1].min()


def test_both_limits_together() -> None:
    """Nothing is free then: what gains most is asked for, and keeps both as it is predicted."""
    linas = Linas(SPACE, truth, FIRST, np.array([14.0, 45.0]), rounds=3, per_round=4, stop_gain=0, population=60,
                  generations=20, seed=0)  # fmt: skip
    for wanted in run(linas)[1:]:
        assert (objectives(wanted) <= [14.0, 45.0]).all()


def test_what_is_never_to_be_run_is_not_proposed() -> None:
    """Its cost is beyond all that was measured, whatever it promises, also where nothing limits the cost."""

    def with_one_never(genotypes: np.ndarray) -> np.ndarray:
        never = genotypes[:, 1] == 3
        return objectives(genotypes) + np.column_stack([1e9 * never, -30.0 * never])

    fit = lambda *_: Predicted(with_one_never, certain)  # noqa: E731
    for limits in ([np.inf, np.inf], [np.inf, 45.0], [np.inf, 1.0], [0.5, np.inf]):
        linas = Linas(SPACE, fit, FIRST, np.array(limits), lambda x: x[:, :1] - 1.0, rounds=3, per_round=4, stop_gain=0,
                      population=60, generations=20, seed=0)  # fmt: skip
        for wanted in run(linas)[1:]:
            assert (wanted[:, 1] != 3).all()


def test_uncertain_ones_are_tried_where_the_certain_ones_gain_nothing() -> None:
    """Predictors that see no gain anywhere, but do not trust themselves."""

    def flat(genotypes: np.ndarray) -> np.ndarray:
        return np.tile([[30.0, 49.9]], (len(genotypes), 1))

    def unsure(genotypes: np.ndarray) -> np.ndarray:
        return np.full((len(genotypes), 2), 20.0)

    assert len(run(strategy(lambda *_: Predicted(flat, certain), rounds=1))) == 1
    assert len(run(strategy(lambda *_: Predicted(flat, unsure), rounds=1))) == 2


def test_nsga2_begins_with_the_known_front_and_members_with_layers_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[np.ndarray] = []

    def optimise(space: Any, worth: Any, *, start: np.ndarray, **_: Any) -> np.ndarray:
        begun.append(start)
        return start

    monkeypatch.setattr("instatune_deploy.search.linas.optimise", optimise)
    shapes = np.array([[1, value, value, value, value] for value in range(4)] * 5)
    linas = Linas(SPACE, truth, FIRST, np.full(2, np.inf), rounds=1, per_round=6, stop_gain=0, population=8, generations=1,
                  seed=0, shapes=shapes)  # fmt: skip
    run(linas)
    known = {tuple(row) for row in rows(SPACE.canonical(FIRST[[0, 1]]))}
    assert known <= set(rows(begun[0]))
    # at most half of the population: every fifth of the twenty
    assert rows(begun[0][-4:]) == rows(SPACE.canonical(shapes[::5]))


def test_the_same_for_a_seed() -> None:
    one, same, other = (run(strategy(seed=seed)) for seed in (3, 3, 4))
    assert [rows(part) for part in one] == [rows(part) for part in same]
    assert [rows(part) for part in one] != [rows(part) for part in other]
