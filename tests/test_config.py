from __future__ import annotations

import pytest
from pydantic import ValidationError

from instatune_deploy.config import PipelineSettings, ProfileSettings
from instatune_deploy.errors import BadInput
from instatune_deploy.pipeline.targets import load_pipeline_or_matrix
from instatune_deploy.resources import resource_folder, resource_names
from instatune_deploy.yamlfile import load_yaml, parse_yaml


@pytest.mark.parametrize("name", resource_names("pipelines"))
def test_shipped_pipelines(name: str) -> None:
    settings, _ = load_pipeline_or_matrix(name)
    for source in (settings.model, settings.data):
        assert not source.reference.startswith("pypi:") or source.sha256


@pytest.mark.parametrize("name", resource_names("hardware_profiles"))
def test_shipped_profiles(name: str) -> None:
    assert load_yaml(resource_folder("hardware_profiles") / f"{name}.yaml", ProfileSettings).name == name


def test_the_default_pipeline() -> None:
    settings = load_yaml(resource_folder("pipelines") / "sentiment.yaml", PipelineSettings)
    assert settings.data.binarize is not None
    assert (settings.data.binarize.threshold, settings.data.binarize.margin) == (0, 0.5)
    assert (settings.data.split.test, settings.data.split.validation) == (1500, 1000)
    assert settings.finetune.alpha == 0.3  # Eq. 1 of arXiv 2308.15609


def test_settings_never_change() -> None:
    settings = parse_yaml("name: a\ndescription: b\nruns: [{runtime: openvino}]", ProfileSettings, "")
    assert (settings.threads, settings.statistic, settings.runs[0].precision) == ("all", "p90", "fp32")
    with pytest.raises(ValidationError, match="frozen"):
        settings.threads = 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("runs: [{runtime: openvino}, {runtime: openvino}]", "a.yaml:3: runs: openvino cpu fp32 stands here twice"),
        ("runs: []", "runs: "),
        ("runs: [{runtime: tensorrt}]", "runs.0.runtime: input should be 'onnxruntime' or 'openvino' (found 'tensorrt')"),
        ("runs: [{runtime: openvino}]\nthreads: 0", "threads"),
        ("runs: [{runtime: openvino}]\nthreads: some", "threads"),
        ("runs: [{runtime: openvino}]\nstatistic: p95", "statistic: "),
        ("runs: [{runtime: openvino}]\nsequence_length: 3", "sequence_length: "),
        ("runs: [{runtime: openvino}]\nwidth_multiple: 0", "width_multiple: "),
        ("runs: [{runtime: openvino}]\ntiming: {tolerance: 1}", "timing.tolerance: input should be less than 1 (found 1)"),
    ],
)
def test_bad_profiles(text: str, expected: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_yaml(f"name: a\ndescription: b\n{text}", ProfileSettings, "a.yaml")
    assert expected in caught.value.message


@pytest.mark.parametrize("name", ["Some CPU", "-cpu", "", "../cpu", "a_b"])
def test_names_of_profiles_are_names_of_folders(name: str) -> None:
    with pytest.raises(BadInput, match="name: "):
        parse_yaml(f"name: '{name}'\ndescription: b\nruns: [{{runtime: openvino}}]", ProfileSettings, "a.yaml")
