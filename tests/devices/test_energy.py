from __future__ import annotations

from pathlib import Path

import pytest

from instatune_deploy.devices.energy import WINDOW_S, counted, energy_mj


def package(folder: Path, number: int, energy_uj: int, most: int = 10**9, name: str = "") -> Path:
    made = folder / f"intel-rapl:{number}"
    made.mkdir(exist_ok=True)
    (made / "name").write_text(f"{name or f'package-{number}'}\n")
    (made / "energy_uj").write_text(f"{energy_uj}\n")
    (made / "max_energy_range_uj").write_text(f"{most}\n")
    return made


class Clock:
    """Advances with every run, which uses so many microjoules of each package."""

    def __init__(self, folder: Path, each_s: float, used_uj: dict[int, int], counters: dict[int, int], most: int = 10**9) -> None:
        self.folder, self.each_s, self.used_uj, self.counters, self.most = folder, each_s, used_uj, counters, most
        self.now, self.runs = 0.0, 0
        self.names: dict[int, str] = {}
        self.write()

    def write(self) -> None:
        for number, value in self.counters.items():
            package(self.folder, number, value % self.most, self.most, self.names.get(number, ""))

    def run_once(self) -> None:
        self.now += self.each_s
        self.runs += 1
        for number, used in self.used_uj.items():
            self.counters[number] += used
        self.write()


def test_energy_of_a_run_is_that_of_all_packages(tmp_path: Path) -> None:
    clock = Clock(tmp_path, 0.01, {0: 4000, 1: 1500}, {0: 70, 1: 10})
    part = tmp_path / "intel-rapl:0:0"  # the cores of a package are counted in it
    part.mkdir()
    (part / "name").write_text("core")
    (part / "energy_uj").write_text("5")
    # laptops have a counter of the whole platform, its packages included
    package(tmp_path, 2, 100, name="psys")
    clock.counters[2], clock.used_uj[2], clock.names[2] = 100, 9000, "psys"
    assert energy_mj(clock.run_once, tmp_path, lambda: clock.now) == pytest.approx(5.5)
    assert clock.runs == pytest.approx(WINDOW_S / 0.01, abs=1)


def test_a_counter_that_begins_at_0_again(tmp_path: Path) -> None:
    clock = Clock(tmp_path, 1.0, {0: 4000}, {0: 9000}, most=10_000)
    assert energy_mj(clock.run_once, tmp_path, lambda: clock.now) == pytest.approx(4.0)
    assert int((tmp_path / "intel-rapl:0" / "energy_uj").read_text()) == 3000


def test_nothing_counts(tmp_path: Path) -> None:
    def never() -> None:
        raise AssertionError("there is nothing to look at")

    assert energy_mj(never, tmp_path) is None
    assert energy_mj(never, tmp_path / "none") is None
    hidden = package(tmp_path, 0, 5)
    assert counted(tmp_path)
    (hidden / "energy_uj").write_text("")  # as unreadable as one of root's
    assert not counted(tmp_path)
    assert energy_mj(never, tmp_path) is None
