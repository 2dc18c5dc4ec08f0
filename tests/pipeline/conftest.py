"""A finished run on the tiny checkpoint, made once; every test works on a copy of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from .fakes import FakeDevice, Place, write_pipeline

BUDGET = "4ms"


def installed(patch: pytest.MonkeyPatch, fake: FakeDevice) -> FakeDevice:
    """Let ``fake`` stand where latencies and accuracies are measured."""
    patch.setattr("instatune_deploy.pipeline.bench.measure_graph", fake.measure_graph)
    patch.setattr("instatune_deploy.pipeline.bench.Bench._evaluate", lambda *arguments: fake.accuracy(*arguments))
    # what carved graphs are said to reach is made up, what the finished graph reaches is not
    patch.setattr("instatune_deploy.pipeline.export.ACCURACY_TOLERANCE", 1.0)
    patch.setattr("instatune_deploy.artifact.write.Draft.remeasure", lambda draft, *arguments: fake.remeasure(draft, *arguments))
    return fake


@pytest.fixture(scope="session")
def finished(tiny_checkpoint: Path, tiny_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The whole flow under a budget of 4 ms. Not to be changed: `place` is a copy."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        place = Place(folder, write_pipeline(folder, tiny_checkpoint, tiny_csv), installed(patch, FakeDevice()))
        place.job(BUDGET).run()
    return place


@pytest.fixture
def place(finished: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A copy of the finished run, with a device that has not been asked anything yet."""
    folder = tmp_path / "copy"
    shutil.copytree(finished.folder, folder)
    return Place(folder, folder / finished.pipeline.name, installed(monkeypatch, FakeDevice()))
