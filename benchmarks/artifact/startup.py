"""How long does the command line take to answer? ``instatune-deploy --help`` beside an empty Python, in turns.

Heavy libraries are to be imported when they are used. ``python -m benchmarks.artifact.startup``
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click

from benchmarks.results import FOLDER, markdown, write_result

HELP = "instatune-deploy --help"
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    HELP: ["-m", "instatune_deploy", "--help"],
    "instatune-deploy verify --help": ["-m", "instatune_deploy", "verify", "--help"],
    "instatune-deploy devices": ["-m", "instatune_deploy", "devices"],
}


@click.command(help=__doc__)
@click.option("--quick", is_flag=True, help="A smoke run: each command once.")
@click.option("--rounds", default=15, show_default=True, help="How often each is started, in turns, after once to warm up.")
@click.option("--results", default=FOLDER, type=click.Path(path_type=Path), help="Where the JSON is written.")
def main(quick: bool, rounds: int, results: Path) -> None:
    """Start every command in turns."""
    took: dict[str, list[float]] = {name: [] for name in COMMANDS}
    rounds = 1 if quick else rounds
    for number in range(rounds + (not quick)):
        for name, arguments in COMMANDS.items():
            seconds = started(arguments)
            if number or quick:  # the first round fills the disk's cache
                took[name].append(seconds)
    rows: list[dict[str, Any]] = [
        {
            "command": name,
            "seconds (median)": round(statistics.median(found), 3),
            "range": f"{min(found):.3f} - {max(found):.3f}",
        }
        for name, found in took.items()
    ]
    click.echo(markdown(rows))
    summary = {"help_seconds": round(statistics.median(took[HELP]), 3)}
    write_result("artifact-startup", {"quick": quick, "rounds": rounds}, rows, summary, results)


def started(arguments: list[str]) -> float:
    """Seconds that a Python with these arguments takes, from its start to its end."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
