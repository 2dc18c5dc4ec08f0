from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from instatune_deploy.devices import memory

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")


@linux
def test_the_peak_is_of_what_came_after_it_was_forgotten() -> None:
    assert memory.forget_peak()
    before = memory.peak_bytes()
    large = np.ones(50_000_000, dtype=np.uint8)
    with_it = memory.peak_bytes()
    del large
    after = memory.peak_bytes()
    memory.forget_peak()
    anew = memory.peak_bytes()
    assert before is not None
    assert with_it is not None
    assert anew is not None
    assert after is not None
    assert 45e6 < with_it - before < 70e6
    assert after > with_it - 5e6  # a peak stays; Linux counts in batches
    assert after - anew > 40e6


def test_a_system_that_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "STATUS", tmp_path / "none")
    monkeypatch.setattr(memory, "FORGET", tmp_path / "no folder" / "none")
    assert memory.peak_bytes() is None
    assert not memory.forget_peak()


def test_the_figure_is_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status = tmp_path / "status"
    monkeypatch.setattr(memory, "STATUS", status)
    status.write_text("Name:\tx\nVmPeak:\t 9 kB\nVmHWM:\t    1234 kB\nVmRSS:\t 7 kB\n")
    assert memory.peak_bytes() == 1234 * 1024
    status.write_text("Name:\tx\n")
    assert memory.peak_bytes() is None
