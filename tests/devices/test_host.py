from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from instatune_deploy.devices.host import Host, this_host
from instatune_deploy.devices.host_facts import host_facts

FACTS: dict[str, Any] = {
    "machine": "aarch64",
    "cpu_model": "ARM implementer 0x41 part 0xd0b",
    "cpu_flags": ["asimd", "asimddp"],
    "cores": 4,
    "memory_bytes": 8 << 30,
    "os": "Linux 6.6",
    "board": "Raspberry Pi 5 Model B Rev 1.0",
}


def test_fingerprint_changes_with_what_decides_latency_and_nothing_else(host: Host) -> None:
    same = [
        replace(host, memory_bytes=1),
        replace(host, os="Linux 6.2"),
        replace(host, board="A board"),
        replace(host, cpu_flags=frozenset(["fma", "avx2", "sse2"])),
    ]
    other = [replace(host, cores=2), replace(host, machine="aarch64"), replace(host, cpu_model="B")]
    other.append(replace(host, cpu_flags=host.cpu_flags | {"avx512f"}))
    assert {item.fingerprint for item in same} == {host.fingerprint}
    assert len({item.fingerprint for item in [host, *other]}) == 5


def test_fingerprint_is_kept_for_ever(host: Host) -> None:
    """Measurements are found by it: SHA-256 of the canonical JSON, taken with sha256sum."""
    # printf '["x86_64","A CPU",4,["avx2","fma","sse2"]]' | sha256sum
    assert host.fingerprint == "eb4806aa7bcd4383"


def test_describe_is_json_with_the_flags_of_arithmetic(host: Host) -> None:
    described = json.loads(json.dumps(host.describe()))
    assert described["cpu_flags"] == ["avx2", "fma"]
    assert described["fingerprint"] == host.fingerprint
    assert described["cores"] == 4


def test_this_host_is_plausible() -> None:
    host = this_host()
    assert host.cores >= 1
    assert host.memory_bytes > 1 << 28
    assert host is this_host()
    assert host == Host.from_facts(json.loads(json.dumps(host_facts())))


def test_from_facts_of_another_device() -> None:
    host = Host.from_facts(FACTS)
    assert host == Host(**{**FACTS, "cpu_flags": frozenset({"asimd", "asimddp"})})


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("cores", 0, "cores must be a whole number of at least 1 (found 0)"),
        ("cores", "4", "cores must be a whole number of at least 1 (found '4')"),
        ("cores", True, "cores must be a whole number of at least 1 (found True)"),
        ("memory_bytes", -1, "memory_bytes must be a whole number of at least 0 (found -1)"),
        ("memory_bytes", 1.5, "memory_bytes must be"),
        ("machine", None, "machine must be one line of text (found None)"),
        ("board", "a\nb", "board must be one line of text"),
        ("cpu_flags", "avx2", "cpu_flags must be a list of words (found 'avx2')"),
        ("cpu_flags", [1], "cpu_flags must be a list of words"),
        ("extra", 1, "unknown: extra"),
    ],
)
def test_facts_that_are_wrong(key: str, value: object, says: str) -> None:
    with pytest.raises(ValueError, match=r"^host: ") as caught:
        Host.from_facts({**FACTS, key: value})
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_facts_that_are_missing() -> None:
    with pytest.raises(ValueError, match=r"^host: missing: cores, os$"):
        Host.from_facts({key: value for key, value in FACTS.items() if key not in {"os", "cores"}})
    with pytest.raises(ValueError, match="found a list"):
        Host.from_facts([])  # type: ignore[arg-type]
