"""The benchmarks of predictors and search: what they read, and smoke runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from click.testing import CliRunner

from benchmarks.search import budgets, contestants, effort, hat, pool, predictors
from benchmarks.search.tabular import PoolSpace, needed, searched
from instatune_deploy.config import SearchSettings
from instatune_deploy.search.pareto import front


def write(folder: Path) -> None:
    names, x, y = hat.made_up()
    for index, name in enumerate(hat.DEVICES.values()):
        rows = [[*row, took, 10.0 * index, 0.1, 0.1] for row, took in zip(x.tolist(), y.tolist(), strict=True)]
        titles = [*names, "latency_mean_encoder", "latency_mean_decoder", "latency_std_encoder", "latency_std_decoder"]
        (folder / name).write_text("\n".join(",".join(map(str, row)) for row in [titles, *rows]) + "\n")


def test_what_is_learned_is_encoder_and_decoder_together(tmp_path: Path) -> None:
    write(tmp_path)
    names, x, y = hat.read(tmp_path / hat.DEVICES["raspberrypi"])
    expected = hat.made_up()
    assert names == expected[0]
    np.testing.assert_allclose(x, expected[1])
    np.testing.assert_allclose(y, expected[2] + 10)


def test_judged_on_what_was_not_learned() -> None:
    names, x, y = hat.made_up()

    def told(x_train: np.ndarray, y_train: np.ndarray, unseen: np.ndarray, names: list[str], seed: int) -> hat.Told:
        assert len(x_train) == 20
        assert len(unseen) == 40
        assert not {tuple(row) for row in x_train} & {tuple(row) for row in unseen}
        truth = np.array([y[(x == row).all(axis=1)][0] for row in unseen])
        return truth * 1.1, (truth * 0.9, np.where(np.arange(40) < 30, truth, truth * 0.95))

    found = hat.judged((names, x, y), told, 20, 40, seeds=2)
    assert [round(each["mape"], 9) for each in found] == [0.1, 0.1]
    assert [each["inside"] for each in found] == [0.75, 0.75]
    assert found[0]["tau"] == 1


def test_a_smoke_run_has_every_figure_of_the_real_one(tmp_path: Path) -> None:
    done = CliRunner().invoke(hat.main, ["--quick", "--results", str(tmp_path)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    summary = json.loads((tmp_path / "search-hat.json").read_text())["summary"]
    assert set(summary["mape"]) == {"xeon", "raspberrypi"}
    assert set(summary["mape"]["xeon"]["20"]) == {"ours", "ridge", "catboost"}
    assert 0.5 < summary["coverage_90"]["xeon"]["20"] <= 1


def test_without_the_tables_it_says_what_is_missing() -> None:
    done = CliRunner().invoke(hat.main, [])
    assert done.exit_code == 2
    assert "--data FOLDER: where are the two tables of HAT?" in done.stderr


# --- the pool -----------------------------------------------------------------------------------------------------------

POOL = pool.made_up(60)


def test_a_pool_reads_itself(tmp_path: Path) -> None:
    POOL.save(tmp_path / "deeper" / "pool.parquet")
    again = pool.Pool.load(tmp_path / "deeper" / "pool.parquet")
    assert (again.space, again.shape, again.tokens, again.about) == (POOL.space, POOL.shape, POOL.tokens, POOL.about)
    np.testing.assert_array_equal(again.genotypes, POOL.genotypes)
    np.testing.assert_array_equal(again.accuracy, POOL.accuracy)
    for runtime in ("onnxruntime", "openvino"):
        np.testing.assert_array_equal(again.objectives(runtime), POOL.objectives(runtime))
        np.testing.assert_array_equal(again.upper[runtime], POOL.upper[runtime])


def test_a_pool_has_different_architectures_with_the_extremes_among_them() -> None:
    networks = [POOL.space.decode(row) for row in POOL.genotypes]
    assert len({str(network) for network in networks}) == len(POOL) == 60
    assert {POOL.space.largest(), POOL.space.smallest()} <= set(networks)


def test_the_nearest_member_stands_for_anything() -> None:
    space = PoolSpace(POOL)
    np.testing.assert_array_equal(space.nearest(POOL.genotypes), np.arange(len(POOL)))
    drawn = POOL.space.sample(np.random.default_rng(5), 30)
    shares = [
        np.column_stack([heads / 4, widths / 64]) for heads, widths in (POOL.space.sizes(drawn), POOL.space.sizes(POOL.genotypes))
    ]
    for index, row in zip(space.nearest(drawn), shares[0], strict=True):
        distances = np.abs(shares[1] - row).sum(axis=1)
        assert distances[index] == distances.min()
    assert space.canonical(drawn[:0]).shape == (0, 9)


def test_measurements_until_a_share_of_the_hypervolume() -> None:
    """Below (4, 4) the points (1, 3), (2, 2) and (3, 1) cover 3, 4 and 3; the first two 5, all of them 6."""
    objectives = np.array([[4.0, 4.0], [1.0, 3.0], [2.0, 2.0], [3.0, 1.0]])
    assert needed([0, 1, 2, 3], objectives, (0.5, 0.8, 1.0)) == [2, 3, 4]
    assert needed([2, 1], objectives, (0.5, 0.8, 1.0)) == [1, 2, None]


def test_every_contestant_gets_the_whole_pool_in_an_order_of_its_own() -> None:
    objectives = POOL.objectives("openvino")
    for settings in effort.CONTESTANTS.values():
        for made in settings.values():
            order = searched(made(POOL, 0, effort.NO_LIMITS.copy()), POOL, objectives, seed=0, until=0.99)
            assert sorted(order) == list(range(len(POOL)))


def test_the_best_of_a_pool_come_front_by_front() -> None:
    objectives = POOL.objectives("onnxruntime")
    count = len(front(objectives))
    best = contestants.best_of(POOL.genotypes, objectives, count + 3)
    expected = {tuple(row) for row in POOL.genotypes[front(objectives)].tolist()}
    assert {tuple(row) for row in best[:count].tolist()} == expected
    assert len({tuple(row) for row in best.tolist()}) == count + 3


def test_the_best_setting_of_a_peer_counts() -> None:
    found = {
        ("ours", "", "a"): [[5, 10, 20], [5, 12, 20]],
        ("ours", "", "b"): [[5, 14, 20], [5, 20, None]],
        ("nsga2", "10", "a"): [[1, 90, 95], [1, None, None]],
        ("nsga2", "20", "a"): [[1, 60, 95], [1, 70, None]],
    }
    assert effort.summarised(found) == {  # type: ignore[arg-type]
        "evaluations_to_99": {"ours": 13, "nsga2": 65},
        "setting": {"ours": "", "nsga2": "20"},
        "ratio_to_nsga2": 5.0,
    }


def test_a_budget_is_searched_as_the_command_does() -> None:
    limit_ms = budgets.budget_of(POOL, "openvino", 3)
    choice = budgets.chosen(POOL, "openvino", limit_ms, 3, SearchSettings())
    assert choice.chosen is not None
    assert POOL.upper["openvino"][choice.chosen] <= limit_ms
    keeping = POOL.accuracy[POOL.upper["openvino"] <= limit_ms]
    assert POOL.accuracy[choice.best] == keeping.max() >= POOL.accuracy[choice.chosen]
    assert choice.measured <= 16 + 4 * 6


def test_predictors_are_judged_on_the_rest_of_the_pool() -> None:
    found = predictors.judged(pool.made_up(100), pool.made_up(100).accuracy, False, 60, "ours", 0)
    assert found["tau"] > 0.9
    assert found["within 10%"] == 1
    assert found["coverage"] > 0.6


def test_without_a_pool_it_says_how_to_make_one(tmp_path: Path) -> None:
    done = CliRunner().invoke(effort.main, ["--pool", str(tmp_path / "none")])
    assert done.exit_code == 1
    assert "make the pool first: python -m benchmarks.search.pool" in done.stderr


def test_smoke_runs_have_every_figure_of_the_real_ones(tmp_path: Path) -> None:
    keys = {
        "effort": (effort.main, {"evaluations_to_99", "ratio_to_nsga2", "ratio_to_random"}),
        "predictors": (predictors.main, {"at_60"}),
        "budgets": (budgets.main, {"kept", "of", "median_regret_points"}),
    }
    for name, (main, expected) in keys.items():
        done = CliRunner().invoke(main, ["--quick", "--results", str(tmp_path)], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        assert done.stdout.startswith("| ")
        assert expected <= set(json.loads((tmp_path / f"search-{name}.json").read_text())["summary"])
    at = json.loads((tmp_path / "search-predictors.json").read_text())["summary"]["at_60"]
    assert set(at) == {"latency_mape", "latency_within_10", "latency_tau", "accuracy_tau", "coverage_90"}
