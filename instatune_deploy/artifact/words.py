"""What the checks found, as it is printed: the same wherever they are made."""

from __future__ import annotations

import json
from pathlib import Path

from instatune_deploy.artifact.checks import Check, Report
from instatune_deploy.errors import UserError

WORDS = {True: "ok", False: "FAILED", None: "unclear"}


def said(report: Report, artifact: Path, as_json: bool) -> list[str]:
    """The lines for standard output; ``artifact``: as the user named it."""
    failure = report.failure()
    if as_json:
        exit_code = failure.exit_code if failure is not None else 0
        return [json.dumps({**report.to_json(), "folder": str(artifact), "exit_code": exit_code})]
    good = [] if failure is not None else [f"{artifact} is what its manifest says."]
    return [*map(line, report.checks), *good]


def refused(artifact: Path, error: UserError) -> str:
    """The JSON object where nothing could be checked."""
    value = {"folder": str(artifact), "ok": False, "exit_code": error.exit_code, "error": error.message, "checks": []}
    return json.dumps(value)


def line(check: Check) -> str:
    """``ok      parity: logits of 32 rows differ by up to 1e-06``."""
    return f"{WORDS[check.ok]:8}{check.name}: {check.detail}"
