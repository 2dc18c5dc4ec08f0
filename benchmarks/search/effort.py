"""How many measurements does it take to find the front? Ours, LINAS, NSGA-II and random search on the same pool.

The pool (`pool`) is searched once for each runtime and seed. Peers run with several sizes of their rounds, and the best counts.
``python -m benchmarks.search.effort``
"""

from __future__ import annotations

import statistics
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.families import TEXT
from benchmarks.results import FOLDER, markdown, write_result
from benchmarks.search import contestants
from benchmarks.search.contestants import Contestant
from benchmarks.search.pool import Pool, file_of, made_up
from benchmarks.search.tabular import needed, searched

SHARES = (0.95, 0.99, 0.995)
JUDGED = SHARES.index(0.99)
NO_LIMITS = np.full(2, np.inf)
CONTESTANTS: dict[str, dict[str, Contestant]] = {
    "ours": {"6 a round": contestants.ours},
    "linas": {f"{count} a round": contestants.linas(count) for count in (6, 10, 20, 50)},
    "nsga2": {f"population {count}": contestants.nsga2(count) for count in (20, 50)},
    "random": {"": contestants.random},
}
Counts = list[int | None]
"""Measurements until each of `SHARES`."""


@click.command(help=__doc__)
@click.option("--pool", "path", default=file_of(TEXT), type=click.Path(path_type=Path), help="The Parquet file of the pool.")
@click.option("--quick", is_flag=True, help="A smoke run on a made-up pool; its figures mean nothing.")
@click.option("--seeds", default=10, show_default=True, help="How many, from 0 on.")
@click.option("--jobs", default=2, show_default=True, help="Searches at a time.")
@click.option("--results", default=FOLDER, type=click.Path(path_type=Path), help="Where the JSON is written.")
def main(path: Path, quick: bool, seeds: int, jobs: int, results: Path) -> None:
    """Search the pool with everything."""
    pool, seeds = (made_up(), 1) if quick else (Pool.load(path), seeds)
    runs = [
        (who, setting, runtime, seed)
        for who, settings in CONTESTANTS.items()
        for setting in settings
        for runtime in pool.runtimes
        for seed in range(seeds)
    ]
    if quick:
        counts = [run_one(pool, *run) for run in runs]
    else:
        with ProcessPoolExecutor(jobs) as workers:
            counts = [future.result() for future in [workers.submit(run_one, pool, *run) for run in runs]]
    found: dict[tuple[str, str, str], list[Counts]] = {}
    for (who, setting, runtime, _), count in zip(runs, counts, strict=True):
        found.setdefault((who, setting, runtime), []).append(count)
    rows = [_row(*key, of) for key, of in found.items()]
    click.echo(markdown(rows))
    write_result(
        "search-effort", {"quick": quick, "seeds": seeds, "pool": len(pool), **pool.about}, rows, summarised(found), results
    )


def run_one(pool: Pool, who: str, setting: str, runtime: str, seed: int) -> Counts:
    """One search, until the last of `SHARES`."""
    objectives = pool.objectives(runtime)
    strategy = CONTESTANTS[who][setting](pool, seed, NO_LIMITS.copy())
    return needed(searched(strategy, pool, objectives, seed, SHARES[-1]), objectives, SHARES)


def summarised(found: dict[tuple[str, str, str], list[Counts]]) -> dict[str, Any]:
    """Medians over runtimes and seeds of the measurements until 99%, each with its best setting; and how many times ours."""
    best: dict[str, float] = {}
    chosen: dict[str, str] = {}
    for who in dict.fromkeys(key[0] for key in found):
        settings = dict.fromkeys(setting for name, setting, _ in found if name == who)
        medians = {
            setting: statistics.median(
                count[JUDGED] or float("inf") for key, of in found.items() if key[:2] == (who, setting) for count in of
            )
            for setting in settings
        }
        chosen[who] = min(medians, key=lambda setting: medians[setting])
        best[who] = medians[chosen[who]]
    return {
        "evaluations_to_99": best,
        "setting": chosen,
        **{f"ratio_to_{who}": round(best[who] / best["ours"], 2) for who in best if who != "ours"},
    }


def _row(who: str, setting: str, runtime: str, counts: list[Counts]) -> dict[str, Any]:
    row: dict[str, Any] = {"strategy": who, "setting": setting, "runtime": runtime}
    for number, share in enumerate(SHARES):
        each = sorted(count[number] or float("inf") for count in counts)
        row[f"until {share:.1%}"] = statistics.median(each)
        row[f"{share:.1%}, range"] = f"{each[0]} - {each[-1]}"
    return row


if __name__ == "__main__":
    main()
