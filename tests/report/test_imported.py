"""What is said of measurements from another device."""

from __future__ import annotations

from instatune_deploy.devices.host import Host
from instatune_deploy.devices.imports import Imported
from instatune_deploy.report.imported import imported_lines


def test_lines() -> None:
    host = Host("aarch64", "Cortex-A76", frozenset(), cores=4, memory_bytes=8 << 30, os="Linux 6.6", board="Raspberry Pi 5")
    imported = Imported("raspberry-pi", host, new=1, known=4, doubted={"others": 1, "out of memory": 2})
    assert imported_lines(imported) == [
        f"1 new measurement of raspberry-pi (Raspberry Pi 5, 4 cores, host {host.fingerprint}); 4 known already",
        "3 of them not believed:",
        "  2: out of memory",
        "  1: others",
    ]
    assert len(imported_lines(Imported("raspberry-pi", host, 5, 0, {}))) == 1
