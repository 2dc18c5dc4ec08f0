from __future__ import annotations

from pathlib import Path

import pytest

from instatune_deploy import resources
from instatune_deploy.errors import BadInput
from instatune_deploy.resources import find_resource, resource_folder, resource_names


def test_what_ships() -> None:
    assert set(resource_names("hardware_profiles")) >= {"generic-cpu", "laptop-cpu", "xeon-cpu"}
    assert "sentiment" in resource_names("pipelines")


def test_an_installed_package_looks_inside_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "PACKAGE", tmp_path / "package")
    assert resource_folder("pipelines") == tmp_path / "pipelines"
    (tmp_path / "package" / "pipelines").mkdir(parents=True)
    assert resource_folder("pipelines") == tmp_path / "package" / "pipelines"


def test_by_name_and_by_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = resource_folder("pipelines") / "sentiment.yaml"
    for name in ("sentiment", "sentiment.yaml", "pipelines/sentiment.yaml", str(shipped)):
        assert find_resource("pipelines", name, "pipeline").samefile(shipped)
    own = tmp_path / "pipelines" / "sentiment.yaml"
    own.parent.mkdir()
    own.write_text("task: mine")
    assert find_resource("pipelines", "pipelines/sentiment.yaml", "pipeline").samefile(own)  # the user's own comes first
    assert find_resource("pipelines", "sentiment", "pipeline").samefile(shipped)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("xeon_cpu", "unknown hardware profile 'xeon_cpu'; did you mean 'xeon-cpu'?"),
        ("quantum", "unknown hardware profile 'quantum'; there are: arm-edge-cpu, generic-cpu, intel-igpu, "),
        ("missing.yaml", "hardware profile missing.yaml: no such file"),
        ("elsewhere/xeon-cpu.yaml", "hardware profile elsewhere/xeon-cpu.yaml: no such file"),
        ("", "unknown hardware profile ''; there are: "),
        ("../hardware_profiles/xeon-cpu", "unknown hardware profile"),
    ],
)
def test_unknown_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput) as caught:
        find_resource("hardware_profiles", name, "hardware profile")
    assert message in caught.value.message
