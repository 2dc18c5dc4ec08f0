"""A check in words, the same wherever it is made."""

from __future__ import annotations

from instatune_deploy.artifact.checks import Check

WORDS = {True: "ok", False: "FAILED", None: "unclear"}


def line(check: Check) -> str:
    """``ok      parity: logits of 32 rows differ by up to 1e-06``."""
    return f"{WORDS[check.ok]:8}{check.name}: {check.detail}"
