"""The one shape of every result: ``benchmarks/results/<area>-<name>.json``."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from instatune_deploy.artifact.manifest import installed_versions
from instatune_deploy.devices.host import this_host
from instatune_deploy.files import write_json

FOLDER = Path(__file__).parent / "results"
REPOSITORY = Path(__file__).parents[1]


def write_result(
    name: str, settings: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], summary: Mapping[str, Any], folder: Path = FOLDER
) -> Path:
    """Write the result of benchmark ``name`` (``<area>-<name>``) with when, on what commit and on what host it was made.

    A figure that could not be measured is None in ``summary``, and ``summary["why"]`` says why.
    """
    path = folder / f"{name}.json"
    write_json(
        path,
        {
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": _commit(),
            "host": {**this_host().describe(), "versions": installed_versions()},
            "settings": dict(settings),
            "rows": [dict(row) for row in rows],
            "summary": dict(summary),
        },
    )
    return path


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table of rows that share their keys."""
    titles = list(rows[0])
    lines = [titles, ["---" if isinstance(rows[0][title], str) else "---:" for title in titles]]
    lines += [["" if row[title] is None else str(row[title]) for title in titles] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _commit() -> str | None:
    """The commit that was measured; a ``+`` behind it says that files had changed since. None outside a repository."""
    describe = ["git", "describe", "--always", "--abbrev=12", "--dirty=+"]
    done = subprocess.run(describe, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None
