"""Are budgets kept, and how much accuracy is left on the table? Random latency budgets on the measured pool.

For every budget the pool (`pool`) is searched by the command's strategy; the choice is measured anew, carved from the same
export, in a fresh process, and its accuracy is compared with that of the best in the pool that keeps the budget. The pool was
measured on the host's nominal speed, so that is the speed on which a budget is kept or not; what the clock gives, on whatever
speed the host has that day, stands beside it. Let nothing else run meanwhile. ``python -m benchmarks.search.budgets``
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.families import TEXT
from benchmarks.results import FOLDER, markdown, write_result
from benchmarks.search import contestants
from benchmarks.search.pool import WORK, Pool, architecture_of, bench_of, file_of, made_up
from instatune_deploy.config import SearchSettings
from instatune_deploy.devices.measure import Laboratory
from instatune_deploy.devices.process import MeasuringProcess
from instatune_deploy.devices.store import open_store
from instatune_deploy.search.base import rows as hashable
from instatune_deploy.terminal import Terminal

BUDGETS = 20
LONG = {"rounds": 9, "stop_gain": 0.0}
"""Settings of a search that measures nearly twice as much; only its regret is looked at."""
PASSES = 3
"""A latency that cannot be believed is measured so often."""
Anew = Callable[[int, str], tuple[float, float]]
"""Index in the pool and runtime -> p90 on the host's nominal speed, and as the clock gave it, in ms."""


@dataclass(frozen=True)
class Choice:
    """What a search under a budget chose; indices in the pool. best: of all that keep the budget the most accurate."""

    chosen: int | None
    best: int
    measured: int


@click.command(help=__doc__)
@click.option("--pool", "path", default=file_of(TEXT), type=click.Path(path_type=Path), help="The Parquet file of the pool.")
@click.option("--quick", is_flag=True, help="A smoke run on a made-up pool; its figures mean nothing.")
@click.option("--budgets", default=BUDGETS, show_default=True, help="How many, half of them in each runtime.")
@click.option("--work", default=WORK, type=click.Path(path_type=Path), show_default=True, help="Where the pool was made.")
@click.option("--results", default=FOLDER, type=click.Path(path_type=Path), help="Where the JSON is written.")
def main(path: Path, quick: bool, budgets: int, work: Path, results: Path) -> None:
    """Search the pool under every budget, and measure what was chosen."""
    if quick:
        pool = made_up()
        finish(pool, 2, lambda index, runtime: (float(pool.latency[runtime]["p90"][index]),) * 2, results, quick=True)
        return
    pool = Pool.load(path)
    with open_store(work, None, create=True) as store, closing(Laboratory(store, scratch=work)) as laboratory:
        bench = bench_of(work, laboratory, Terminal())
        if bench.supernet.key != pool.about["supernet"]:
            raise click.ClickException(f"{path} was made with another super-network: run benchmarks.search.pool here first")

        def anew(index: int, runtime: str) -> tuple[float, float]:
            run = next(run for run in bench.device.runs if run.runtime == runtime)
            nominal_ms, why = laboratory.nominal_ms(run, bench.device)
            if nominal_ms is None:
                raise click.ClickException(f"the host is too busy: {why}")
            architecture = architecture_of(pool, index)
            carved = bench.graph(architecture, run)
            for _ in range(PASSES):
                with MeasuringProcess(work) as process:
                    carved.put(process.scratch / "graph.onnx")
                    graph = process.scratch / "graph.onnx"
                    outcome = process.measure(graph, bench.example(architecture), run, bench.device.timing, nominal_ms)
                if outcome.timing is not None and outcome.why is None:
                    return outcome.timing.p90_ms, outcome.timing.p90_ms * outcome.timing.drift
            raise click.ClickException(f"the host is too busy: {outcome.why}")

        finish(pool, budgets, anew, results, quick=False)


def finish(pool: Pool, budgets: int, anew: Anew, results: Path, quick: bool) -> None:
    """The table and the result."""
    rows: list[dict[str, Any]] = []
    for number in range(budgets):
        runtime = pool.runtimes[number % len(pool.runtimes)]
        limit_ms = budget_of(pool, runtime, number)
        choice = chosen(pool, runtime, limit_ms, number, SearchSettings())
        longer = chosen(pool, runtime, limit_ms, number, SearchSettings(**LONG))  # type: ignore[arg-type]
        rows.append(_row(pool, runtime, limit_ms, choice, anew))
        rows[-1] |= {"measurements of a longer search": longer.measured, "its regret, points": _regret(pool, longer)}
    click.echo(markdown(rows))
    regrets = [row["regret, points"] for row in rows]
    found = [row for row in rows if row["anew ms"] is not None]
    summary = {
        "kept": sum(row["kept"] == "yes" for row in rows),
        "kept_by_the_clock": sum(row["clock ms"] <= row["budget ms"] for row in found),
        "median_slower_than_nominal": round(statistics.median(row["clock ms"] / row["anew ms"] for row in found), 3),
        "of": len(rows),
        "median_regret_points": round(statistics.median(regrets), 3),
        "largest_regret_points": max(regrets),
        "median_measurements": statistics.median(row["measurements"] for row in rows),
        "median_regret_points_of_longer_search": statistics.median(row["its regret, points"] for row in rows),
        "median_measurements_of_longer_search": statistics.median(row["measurements of a longer search"] for row in rows),
    }
    write_result("search-budgets", {"quick": quick, "pool": len(pool), **pool.about}, rows, summary, results)


def budget_of(pool: Pool, runtime: str, seed: int) -> float:
    """Between a little more than the fastest and the full network's latency, uniformly; ms."""
    upper = pool.upper[runtime]
    slowest = float(np.quantile(upper, 0.95))
    return round(float(np.random.default_rng([seed, 11]).uniform(1.1 * upper.min(), slowest)), 2)


def chosen(pool: Pool, runtime: str, limit_ms: float, seed: int, settings: SearchSettings) -> Choice:
    """The command's own loop and choice: the most accurate measured network whose upper confidence limit keeps the budget."""
    objectives, upper = pool.objectives(runtime), pool.upper[runtime]
    index_of = {row: index for index, row in enumerate(hashable(pool.genotypes))}
    strategy = contestants.ours(pool, seed, np.array([limit_ms, np.inf]))
    strategy.rounds, strategy.stop_gain = settings.rounds, settings.stop_gain  # type: ignore[attr-defined]
    found: list[int] = []
    while (asked := strategy.ask()) is not None:
        indices = [index_of[row] for row in hashable(asked)]
        strategy.tell(asked, objectives[indices])
        found += indices
        strategy.limits[0] = limit_ms / float(np.median(upper[found] / objectives[found, 0]))
    keeping = [index for index in found if upper[index] <= limit_ms]
    all_keeping = np.flatnonzero(upper <= limit_ms)
    best = int(all_keeping[pool.accuracy[all_keeping].argmax()])
    most = min(keeping, key=lambda index: (objectives[index, 1], objectives[index, 0]), default=None)
    return Choice(most, best, len(found))


def _row(pool: Pool, runtime: str, limit_ms: float, choice: Choice, anew: Anew) -> dict[str, Any]:
    row = {"runtime": runtime, "budget ms": limit_ms, "measurements": choice.measured}
    if choice.chosen is None:
        return {
            **row,
            "network": "none found",
            "promised ms": None,
            "anew ms": None,
            "kept": "no",
            "clock ms": None,
            "regret, points": _regret(pool, choice),
        }
    took, clock_ms = anew(choice.chosen, runtime)
    return {
        **row,
        "network": str(architecture_of(pool, choice.chosen)),
        "promised ms": round(float(pool.latency[runtime]["p90"][choice.chosen]), 2),
        "anew ms": round(took, 2),
        "kept": "yes" if took <= limit_ms else "no",
        "clock ms": round(clock_ms, 2),
        "regret, points": _regret(pool, choice),
    }


def _regret(pool: Pool, choice: Choice) -> float:
    """What the choice is less accurate than the best of all that keep the budget; all of it where nothing was found."""
    reached = 0.0 if choice.chosen is None else float(pool.accuracy[choice.chosen])
    return round(100 * (float(pool.accuracy[choice.best]) - reached), 2)


if __name__ == "__main__":
    main()
