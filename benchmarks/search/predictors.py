"""How good are predictors made from few measurements? Ours, ridge regression and CatBoost alone, on the measured pool.

Each seed draws a training set from the pool (`pool`); all are judged on the rest. Latency in both runtimes (p90), and accuracy.
``python -m benchmarks.search.predictors``
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.families import Family, family_option
from benchmarks.results import FOLDER, markdown, write_result
from benchmarks.search.contestants import features_of
from benchmarks.search.pool import Pool, file_of, made_up
from instatune_deploy.predict.features import feature_names
from instatune_deploy.predict.linear import Linear
from instatune_deploy.predict.predictor import Predictor, importance_of
from instatune_deploy.predict.quality import quality

COUNTS = (20, 40, 60, 100, 200)
AT = 60
ASKED = 20_000
LEVELS = (0.05, 0.1)
Told = tuple[np.ndarray, tuple[np.ndarray, np.ndarray] | None]
Figures = dict[str, float]


@click.command(help=__doc__)
@click.option("--pool", "path", type=click.Path(path_type=Path), help="The pool's Parquet file; the family's when not given.")
@click.option("--quick", is_flag=True, help="A smoke run on a made-up pool; its figures mean nothing.")
@click.option("--seeds", default=10, show_default=True, help="How many, from 0 on.")
@click.option("--results", default=FOLDER, type=click.Path(path_type=Path), help="Where the JSON is written.")
@family_option
def main(path: Path | None, quick: bool, seeds: int, results: Path, family: Family) -> None:
    """Judge every predictor with every number of measurements."""
    pool, seeds, counts = (made_up(), 1, (20, AT)) if quick else (Pool.load(path or file_of(family), family), seeds, COUNTS)
    rows: list[dict[str, Any]] = []
    found: dict[tuple[str, int, str], list[Figures]] = {}
    for what, y, relative in targets(pool):
        for count in counts:
            for who in PREDICTORS:
                judgements = [judged(pool, y, relative, count, who, seed) for seed in range(seeds)]
                found[what, count, who] = judgements
                rows.append(_row(what, count, who, judgements))
    click.echo(markdown(rows))
    settings = {"quick": quick, "seeds": seeds, "pool": len(pool), **pool.about}
    write_result(family.result("search-predictors"), settings, rows, {**summarised(found), **speed(pool)}, results)


def speed(pool: Pool) -> dict[str, float]:
    """Seconds to fit both predictors on `AT` measurements, and to ask both of `ASKED` architectures, features included."""
    chosen = np.random.default_rng(0).permutation(len(pool))[:AT]
    start = time.perf_counter()
    x, names = features_of(pool, pool.genotypes[chosen]), feature_names(pool.space)
    fitted = [
        Predictor.fit(x, y[chosen], names, relative=relative, seed=0)
        for _, y, relative in (*targets(pool)[:1], targets(pool)[-1])
    ]
    fitted_at = time.perf_counter()
    unseen = features_of(pool, pool.space.sample(np.random.default_rng(1), ASKED))
    for predictor in fitted:
        predictor.predict(unseen)
    return {"fit_seconds": round(fitted_at - start, 2), "seconds_for_20000": round(time.perf_counter() - fitted_at, 2)}


def targets(pool: Pool) -> list[tuple[str, np.ndarray, bool]]:
    """What is predicted: its name, (n,) values, and whether errors count as shares of them."""
    latencies = [(f"latency, {runtime}", pool.latency[runtime]["p90"], True) for runtime in pool.runtimes]
    return [*latencies, ("accuracy", pool.accuracy, False)]


def judged(pool: Pool, y: np.ndarray, relative: bool, count: int, who: str, seed: int) -> Figures:
    """Error, rank correlation, shares within `LEVELS`, and the share of what lies in its 90% interval, where there is one."""
    order = np.random.default_rng(seed).permutation(len(pool))
    train, unseen = order[:count], order[count:]
    x = features_of(pool, pool.genotypes)
    predicted, interval = PREDICTORS[who](x[train], y[train], x[unseen], feature_names(pool.space), relative, seed)
    how, off = quality(predicted, y[unseen]), np.abs(predicted / y[unseen] - 1)
    inside = float("nan") if interval is None else float(np.mean((interval[0] <= y[unseen]) & (y[unseen] <= interval[1])))
    within = {f"within {level:.0%}": float(np.mean(off <= level)) for level in LEVELS}
    return {"mape": how.mape, "mae": how.mae, "tau": how.tau, "coverage": inside, **within}


def ours(x: np.ndarray, y: np.ndarray, unseen: np.ndarray, names: list[str], relative: bool, seed: int) -> Told:
    """CatBoost on top of a linear model, as the search uses it."""
    predictor = Predictor.fit(x, y, names, relative=relative, seed=seed)
    return predictor.predict(unseen), predictor.interval(unseen)


def ridge(x: np.ndarray, y: np.ndarray, unseen: np.ndarray, names: list[str], relative: bool, seed: int) -> Told:
    """The linear model alone, its penalty chosen by leave-one-out."""
    return Linear.fit(x, y, importance_of(y, relative)).predict(unseen), None


def catboost(x: np.ndarray, y: np.ndarray, unseen: np.ndarray, names: list[str], relative: bool, seed: int) -> Told:
    """CatBoost alone, by its own defaults but for the same weights."""
    from catboost import CatBoostRegressor

    model = CatBoostRegressor(random_seed=seed, thread_count=1, allow_writing_files=False, verbose=False)
    model.fit(x, y, sample_weight=importance_of(y, relative))
    return np.asarray(model.predict(unseen)), None


PREDICTORS = {"ours": ours, "ridge": ridge, "catboost": catboost}


def summarised(found: dict[tuple[str, int, str], list[Figures]]) -> dict[str, Any]:
    """Ours at `AT` measurements: medians over the seeds; of the runtimes the worse one counts."""

    def median(what: str, figure: str) -> float:
        return statistics.median(each[figure] for each in found[what, AT, "ours"])

    latencies = [what for what, count, who in found if what.startswith("latency") and (count, who) == (AT, "ours")]
    return {
        "at_60": {
            "latency_mape": round(max(median(what, "mape") for what in latencies), 4),
            "latency_within_10": round(min(median(what, "within 10%") for what in latencies), 4),
            "latency_tau": round(min(median(what, "tau") for what in latencies), 4),
            "accuracy_tau": round(median("accuracy", "tau"), 4),
            "coverage_90": {what: round(median(what, "coverage"), 4) for what in [*latencies, "accuracy"]},
        }
    }


def _row(what: str, count: int, who: str, judgements: list[Figures]) -> dict[str, Any]:
    def median(figure: str) -> float:
        return statistics.median(each[figure] for each in judgements)

    error = f"{median('mape'):.2%}" if what.startswith("latency") else f"{100 * median('mae'):.2f} points"
    taus = sorted(each["tau"] for each in judgements)
    return {
        "what": what,
        "measurements": count,
        "predictor": who,
        "mean error": error,
        **{f"within {level:.0%}": f"{median(f'within {level:.0%}'):.1%}" for level in LEVELS},
        "Kendall tau": round(median("tau"), 3),
        "tau, range": f"{taus[0]:.3f} - {taus[-1]:.3f}",
        "in its 90% interval": f"{median('coverage'):.1%}" if who == "ours" else "",
    }


if __name__ == "__main__":
    main()
