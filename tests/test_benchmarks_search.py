"""The benchmarks of predictors and search: what they read, and smoke runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from click.testing import CliRunner

from benchmarks.search import hat


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
