"""What the doctor says, for the terminal and as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from instatune_deploy.devices.doctor import Check, Findings
from instatune_deploy.words import counted

STYLES = {"ok": "green", "note": "yellow", "problem": "bold red"}


def check_table(checks: Sequence[Check]) -> Table:
    """A line a check, its advice under what was found."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("state", "check"):
        table.add_column(name, no_wrap=True)
    table.add_column("found", overflow="fold")
    for check in checks:
        told = Text(check.found)
        if check.advice:
            told.append(f"\n-> {check.advice}", style="bold" if check.state == "problem" else "")
        table.add_row(Text(check.state, style=STYLES[check.state]), check.name, told)
    return table


def summary(checks: Sequence[Check]) -> str:
    """The last line."""
    states = Counter(check.state for check in checks)
    told = [counted(states[state], state) for state in ("problem", "note") if states[state]]
    return f"{' and '.join(told)}." if told else "All is well."


def print_checks(checks: Sequence[Check], console: Console | None = None) -> None:
    """What ``instatune-deploy doctor`` prints."""
    console = console or Console(highlight=False)
    console.print(check_table(checks))
    console.print(f"\n{summary(checks)}", markup=False)


def as_json_text(findings: Findings, checks: Sequence[Check]) -> str:
    """What ``instatune-deploy doctor --json`` prints: checks, and what they were made from."""
    value: dict[str, Any] = {
        "usable": not any(check.blocking for check in checks),
        "checks": [asdict(check) for check in checks],
        "python": findings.python,
        "host": findings.host.describe(),
        "state": asdict(findings.state),
        "installation": asdict(findings.installation),
        "steadiness": findings.steadiness if isinstance(findings.steadiness, str) else list(map(asdict, findings.steadiness)),
    }
    return json.dumps(value, indent=2)
