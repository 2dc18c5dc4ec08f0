from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from instatune_deploy.devices.doctor import Check, Findings
from instatune_deploy.devices.host import Host
from instatune_deploy.devices.host_state import HostState, Process
from instatune_deploy.devices.installation import Installation, Package, Runtime
from instatune_deploy.devices.steadiness import Steadiness
from instatune_deploy.report.doctor import as_json_text, print_checks, summary

OK = Check("Python", "ok", "3.11")
NOTE = Check("governor", "note", "powersave [a]", "sudo something " * 8)
PROBLEM = Check("packages", "problem", "torch is missing", "`pip install torch`", blocking=True)
FINDINGS = Findings(
    "3.11.7",
    Host("x86_64", "A CPU", frozenset({"avx2"}), 4, 8 << 30, "Linux 6.1"),
    HostState(4, None, 4, None, (), None, 0.5, 0.1, None, (Process("a", 1, 0.5),), 0, 1 << 30, 1 << 30, "runs", None),
    Installation((Package("torch", None, ">=2", False),), (Runtime("openvino", None, (), (), {}),), None),
    (Steadiness("a run", 3.0, 0.01, 1.0, 12),),
)


def printed(*checks: Check, width: int = 60) -> list[str]:
    stream = io.StringIO()
    print_checks(checks, Console(file=stream, width=width))
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def test_a_line_a_check_with_its_advice_below() -> None:
    assert printed(OK, PROBLEM) == [
        "ok       Python    3.11",
        "problem  packages  torch is missing",
        "                   -> `pip install torch`",
        "",
        "1 problem.",
    ]


def test_long_advice_stays_in_its_column() -> None:
    lines = printed(NOTE)
    assert lines[0] == "note  governor  powersave [a]"
    assert all(line.startswith(" " * 16) and len(line) <= 60 for line in lines[1:-2])
    assert " ".join(" ".join(lines[1:-2]).split()) == f"-> {NOTE.advice.strip()}"


@pytest.mark.parametrize(
    ("checks", "said"),
    [
        ([OK], "All is well."),
        ([OK, NOTE, NOTE], "2 notes."),
        ([PROBLEM, NOTE, OK], "1 problem and 1 note."),
    ],
)
def test_summary(checks: list[Check], said: str) -> None:
    assert summary(checks) == said


def test_json_says_the_same() -> None:
    value = json.loads(as_json_text(FINDINGS, [OK, PROBLEM]))
    assert value["usable"] is False
    assert value["checks"][0] == {"name": "Python", "state": "ok", "found": "3.11", "advice": "", "blocking": False}
    assert value["state"]["busiest"] == [{"name": "a", "pid": 1, "cores": 0.5}]
    assert value["steadiness"][0]["windows"] == 12
    assert value["installation"]["needed"][0]["fits"] is False
    assert value["host"]["cpu_flags"] == ["avx2"]
    assert json.loads(as_json_text(FINDINGS, [OK]))["usable"] is True
