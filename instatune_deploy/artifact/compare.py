"""Is a new artifact worse than the one before it? The gate of a CI job: what does not pass does not replace anything."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from instatune_deploy.artifact.manifest import FILE_NAME, Manifest, read_manifest
from instatune_deploy.errors import BadInput, VerificationFailed


@dataclass(frozen=True)
class Gate:
    """previous: a folder of artifacts, or one of them; latency_increase: a share; accuracy_drop: in points of 100."""

    previous: Path
    latency_increase: float = 0.05
    accuracy_drop: float = 0.5

    @classmethod
    def of(cls, previous: Path, latency_increase: str, accuracy_drop: str) -> Gate:
        """From words: ``5%`` or ``0.05``; ``0.5`` points. ``BadInput`` for anything else, or a folder that is not there.

        Without a percent sign only what is below 1 is a share: whoever writes 5 does not mean five times as slow.
        """
        if not previous.is_dir():
            raise BadInput(f"--compare {previous}: no such folder")
        share = _number("--max-latency-increase", latency_increase.removesuffix("%")) / (100 if "%" in latency_increase else 1)
        if share >= 1 and "%" not in latency_increase:
            raise BadInput(f"--max-latency-increase {latency_increase}: write {latency_increase}%, or a share below 1")
        return cls(previous, share, _number("--max-accuracy-drop", accuracy_drop.removesuffix("%")))

    def before(self, name: str, alone: bool) -> Manifest | None:
        """The manifest of the earlier artifact of that name; None where there is none. alone: no other is compared, so it may be
        the folder itself."""
        for folder in (self.previous / name, *([self.previous] if alone else [])):
            if (folder / FILE_NAME).is_file():
                return read_manifest(folder)
        return None

    def check_names(self, names: Sequence[str]) -> None:
        """``BadInput`` for a folder with artifacts none of which has one of the ``names``: then nothing would be compared."""
        if len(names) == 1 and (self.previous / FILE_NAME).is_file():
            return
        there = sorted(path.parent.name for path in self.previous.glob(f"*/{FILE_NAME}"))
        if there and not set(names) & set(there):
            raise BadInput(f"--compare {self.previous}: no artifact called {' or '.join(names)} there, but {', '.join(there)}")

    def check_alike(self, old: Manifest | None, task: str, labels: list[str], device: str) -> None:
        """``BadInput`` when the earlier artifact is of something else than what is to be built."""
        if old is None:
            return
        for what, now in (("task", task), ("labels", labels), ("device", device)):
            if (was := getattr(old, what)) != now:
                raise BadInput(f"--compare {self.previous}: that artifact is of another {what} ({_said(was)}, not {_said(now)})")

    def check(self, name: str, new: Manifest, old: Manifest | None) -> str:
        """What was compared, in words. old: `before`

        ``VerificationFailed`` when it is worse by more than is allowed; ``BadInput`` when ``old`` is of something else.
        """
        if old is None:
            return f"nothing to compare with in {self.previous}"
        self.check_alike(old, new.task, new.labels, new.device)
        statistic = new.statistic
        was_ms, now_ms = old.promised_ms(statistic), new.promised_ms(statistic)
        # test rows chose nothing
        tested = old.accuracy.test is not None and new.accuracy.test is not None
        was = (old.accuracy.test if tested else old.accuracy.validation) or 0.0
        now = (new.accuracy.test if tested else new.accuracy.validation) or 0.0
        slower, lost = now_ms / was_ms - 1, 100 * (was - now)
        said = f"{statistic} {was_ms:.2f} -> {now_ms:.2f} ms ({slower:+.1%}), accuracy {was:.2%} -> {now:.2%}"
        if slower > self.latency_increase + 1e-9:
            raise VerificationFailed(f"{name} is slower than before: {said}; allowed are {self.latency_increase:.1%}")
        if lost > self.accuracy_drop + 1e-9:
            raise VerificationFailed(f"{name} is less accurate than before: {said}; allowed are {self.accuracy_drop:g} points")
        return said


def _number(flag: str, text: str) -> float:
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", text.strip()):
        raise BadInput(
            f"{flag} '{text}': a number, such as 5% or 0.05" if "latency" in flag else f"{flag} '{text}': points, such as 0.5"
        )
    return float(text)


def _said(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
