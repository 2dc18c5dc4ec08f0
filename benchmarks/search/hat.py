"""Latency predictors on measured transformers of real devices: ours, Ridge, CatBoost alone.

2,000 architectures on a Xeon and on a Raspberry Pi, from the HAT project (arXiv 2005.14187, MIT licence); put its two tables,
``wmt14ende_cpu_{xeon,raspberrypi}_all.csv``, into a folder. Each seed draws a training set and is judged on 400 others.
``python -m benchmarks.search.hat --data FOLDER``
"""

from __future__ import annotations

import csv
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.results import FOLDER, markdown, write_result
from instatune_deploy.predict.linear import Linear
from instatune_deploy.predict.predictor import Predictor, importance_of
from instatune_deploy.predict.quality import quality

DEVICES = {"xeon": "wmt14ende_cpu_xeon_all.csv", "raspberrypi": "wmt14ende_cpu_raspberrypi_all.csv"}
COUNTS = (50, 200, 1600)
HELD_OUT = 400
QUICK_ROWS = 90
FIGURES = 10
"""The first columns are features; then come the latencies of encoder and decoder."""

Table = tuple[list[str], np.ndarray, np.ndarray]
"""Names of the features; x: (n, features); y: (n,) ms."""
Told = tuple[np.ndarray, tuple[np.ndarray, np.ndarray] | None]
"""Predictions, and their 90% interval where there is one."""


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Folder of the two tables.")
@click.option("--quick", is_flag=True, help="A smoke run on made-up latencies; its figures mean nothing.")
@click.option("--seeds", default=10, show_default=True, help="How many, from 0 on.")
@click.option("--results", default=FOLDER, type=click.Path(path_type=Path), help="Where the JSON is written.")
def main(data: Path | None, quick: bool, seeds: int, results: Path) -> None:
    """Judge every predictor on every device with every number of measurements."""
    if data is None and not quick:
        raise click.UsageError("--data FOLDER: where are the two tables of HAT?")
    counts, held_out, seeds = ((20,), 40, 1) if quick else (COUNTS, HELD_OUT, seeds)
    rows: list[dict[str, Any]] = []
    mapes: dict[str, dict[str, dict[str, float]]] = {}
    coverage: dict[str, dict[str, float]] = {}
    for device, name in DEVICES.items():
        table = made_up() if data is None else read(data / name)
        for count in counts:
            found = {who: judged(table, tell, count, held_out, seeds) for who, tell in PREDICTORS.items()}
            medians = {who: round(100 * statistics.median(each["mape"] for each in of), 2) for who, of in found.items()}
            inside = round(statistics.median(each["inside"] for each in found["ours"]), 3)
            mapes.setdefault(device, {})[str(count)] = medians
            coverage.setdefault(device, {})[str(count)] = inside
            spread = ", ".join(f"{100 * each['mape']:.1f}" for each in sorted(found["ours"], key=lambda each: each["mape"]))
            taus = {f"tau, {who}": round(statistics.median(each["tau"] for each in of), 3) for who, of in found.items()}
            said = {f"MAPE %, {who}": value for who, value in medians.items()}
            row = {"device": device, "measurements": count, **said, "ours by seed": spread, **taus}
            rows.append({**row, "ours within its 90% interval": f"{inside:.0%}"})
    click.echo(markdown(rows))
    settings = {"quick": quick, "seeds": seeds, "held_out": held_out, "target": "encoder + decoder, ms", "mape": "median, %"}
    write_result("search-hat", settings, rows, {"mape": mapes, "coverage_90": coverage}, results)


def read(path: Path) -> Table:
    """Features, and the latency of encoder and decoder together."""
    with path.open(encoding="utf-8", newline="") as stream:
        names, *rows = csv.reader(stream)
    values = np.array(rows, dtype=float)
    return names[:FIGURES], values[:, :FIGURES], values[:, FIGURES] + values[:, FIGURES + 1]


def made_up() -> Table:
    """A table of the same form."""
    rng = np.random.default_rng(0)
    x = rng.integers(1, 8, (QUICK_ROWS, FIGURES)).astype(float)
    return [f"feature_{index}" for index in range(FIGURES)], x, 5 + x @ np.arange(1, FIGURES + 1) + rng.random(QUICK_ROWS)


def judged(table: Table, tell: Callable[..., Told], count: int, held_out: int, seeds: int) -> list[dict[str, float]]:
    """Of every seed: error, rank correlation, and the share within the interval."""
    names, x, y = table
    found = []
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(len(y))
        unseen, train = order[:held_out], order[held_out : held_out + count]
        predicted, interval = tell(x[train], y[train], x[unseen], names, seed)
        how = quality(predicted, y[unseen])
        inside = float("nan") if interval is None else float(np.mean((interval[0] <= y[unseen]) & (y[unseen] <= interval[1])))
        found.append({"mape": how.mape, "tau": how.tau, "inside": inside})
    return found


def ours(x: np.ndarray, y: np.ndarray, unseen: np.ndarray, names: list[str], seed: int) -> Told:
    """CatBoost on top of a linear model, as the search uses it."""
    predictor = Predictor.fit(x, y, names, relative=True, seed=seed)
    return predictor.predict(unseen), predictor.interval(unseen)


def ridge(x: np.ndarray, y: np.ndarray, unseen: np.ndarray, names: list[str], seed: int) -> Told:
    """The linear model alone, its penalty chosen by leave-one-out."""
    return Linear.fit(x, y, importance_of(y, relative=True)).predict(unseen), None


def catboost(x: np.ndarray, y: np.ndarray, unseen: np.ndarray, names: list[str], seed: int) -> Told:
    """CatBoost alone, by its own defaults but for the same weights."""
    from catboost import CatBoostRegressor

    model = CatBoostRegressor(random_seed=seed, thread_count=1, allow_writing_files=False, verbose=False)
    model.fit(x, y, sample_weight=importance_of(y, relative=True))
    return np.asarray(model.predict(unseen)), None


PREDICTORS: dict[str, Callable[..., Told]] = {"ours": ours, "ridge": ridge, "catboost": catboost}

if __name__ == "__main__":
    main()
