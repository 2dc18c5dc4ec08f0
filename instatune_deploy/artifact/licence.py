"""The licence of a base model, as the card in its folder says it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

CARD = "README.md"
FENCE = "---"


def license_of(folder: Path) -> str | None:
    """The ``license`` of the YAML header of README.md; None where there is no such thing."""
    try:
        text = (folder / CARD).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    before, _, rest = text.partition(f"{FENCE}\n")
    header, closed, _ = rest.partition(f"\n{FENCE}")
    if before.strip() or not closed:
        return None
    try:
        value: Any = yaml.safe_load(header)
    except yaml.YAMLError:
        return None
    found = value.get("license") if isinstance(value, dict) else None
    return found if isinstance(found, str) else None
