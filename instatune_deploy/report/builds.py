"""What became of several builds: for programs (JSON), for a job's page (Markdown), and as a CI system counts tests (JUnit)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from xml.etree import ElementTree as Xml

JSON, MARKDOWN, JUNIT = "summary.json", "summary.md", "junit.xml"


@dataclass(frozen=True)
class Build:
    """One target. message: what went wrong, or was compared; the figures are None where there is no artifact.

    exit_code: 0 when it was handed over; else that of the error
    """

    name: str
    device: str
    budget: str
    exit_code: int
    seconds: float
    message: str = ""
    artifact: str | None = None
    run: str | None = None
    statistic: str | None = None
    latency_ms: float | None = None
    full_ms: float | None = None
    validation: float | None = None
    test: float | None = None
    size_bytes: int | None = None

    @property
    def ok(self) -> bool:
        """Whether there is an artifact, and nothing was wrong with it."""
        return self.exit_code == 0


def texts(builds: Sequence[Build]) -> dict[str, str]:
    """By file name."""
    value = {"ok": all(build.ok for build in builds), "builds": [asdict(build) for build in builds]}
    return {JSON: json.dumps(value, indent=2, allow_nan=False) + "\n", MARKDOWN: markdown(builds), JUNIT: junit(builds)}


def markdown(builds: Sequence[Build]) -> str:
    """A table, and below it what went wrong."""
    lines = ["| target | budget | result | run | latency ms | full model ms | validation | test | MB |"]
    lines.append("| --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for build in builds:
        figures = [
            "" if build.latency_ms is None else f"{build.latency_ms:.2f} ({build.statistic})",
            "" if build.full_ms is None else f"{build.full_ms:.2f}",
            "" if build.validation is None else f"{build.validation:.2%}",
            "" if build.test is None else f"{build.test:.2%}",
            "" if build.size_bytes is None else f"{build.size_bytes / 1e6:.1f}",
        ]
        result = "built" if build.ok else f"failed ({build.exit_code})"
        lines.append(f"| {build.name} | {build.budget or 'none'} | {result} | {build.run or ''} | {' | '.join(figures)} |")
    said = [f"- {build.name}: {build.message.splitlines()[0]}" for build in builds if build.message]
    return "\n".join([*lines, *(["", *said] if said else [])]) + "\n"


def junit(builds: Sequence[Build]) -> str:
    """One test case a target."""
    failed = sum(not build.ok for build in builds)
    total = f"{sum(build.seconds for build in builds):.1f}"
    suite = Xml.Element("testsuite", name="instatune-deploy", tests=str(len(builds)), failures=str(failed), time=total)
    for build in builds:
        case = Xml.SubElement(suite, "testcase", classname=build.device, name=build.name, time=f"{build.seconds:.1f}")
        if not build.ok:
            Xml.SubElement(
                case, "failure", type=f"exit {build.exit_code}", message=build.message.splitlines()[0]
            ).text = build.message
    Xml.indent(suite)
    return Xml.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"
