from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from instatune_deploy.artifact.card import card
from instatune_deploy.artifact.licence import license_of
from instatune_deploy.artifact.manifest import Accuracy, Data

from .tiny import make_artifact, tiny_manifest


def header(text: str) -> dict[str, object]:
    return dict(yaml.safe_load(text.split("---\n")[1]))


def test_the_header_is_what_hugging_face_reads(tmp_path: Path) -> None:
    data = Data(reference="reviews.csv", key="k", rows={"train": 80, "validation": 8})
    text = card(tmp_path, tiny_manifest(license="mit", data=data, base_model_on_hub=True))
    assert header(text) == {
        "license": "mit",
        "library_name": "onnxruntime",
        "pipeline_tag": "text-classification",
        "base_model": "a/model",
        "tags": ["instatune-deploy", "onnxruntime", "fp32", "generic-cpu"],
        "metrics": ["accuracy"],
        "model-index": [
            {
                "name": "generic-cpu",
                "results": [
                    {
                        "task": {"type": "text-classification"},
                        "dataset": {"name": "reviews.csv", "type": "custom", "split": "validation"},
                        "metrics": [{"type": "accuracy", "value": 0.875}],
                    }
                ],
            }
        ],
    }


def test_what_is_not_on_the_hub_is_not_linked(tmp_path: Path) -> None:
    assert "base_model" not in header(card(tmp_path, tiny_manifest()))


def test_a_person_reads_the_promise(tmp_path: Path) -> None:
    """Half of the baseline's 8 ms."""
    text = (make_artifact(tmp_path / "a") / "README.md").read_text(encoding="utf-8")
    assert "| budget | 20ms |" in text
    assert "| latency | p50 2.00, p90 4.00, p99 8.00 ms of one inference (60 runs, the slowest of three processes) on " in text
    assert "| full model | 8.00 ms (p90) in openvino fp32: 2.0 times |" in text
    assert "| accuracy | 87.50% on validation rows (full model 90.00%) |" in text
    assert "| memory | 70 MB at most in a process |" in text
    assert "python verify.py" in text
    assert "predict.py" not in text  # the made-up tokenizer cannot be described
    assert f"| `model.onnx` | {(tmp_path / 'a' / 'model.onnx').stat().st_size} |" in text


def test_top5_stands_beside_the_accuracy_where_there_is_one(tmp_path: Path) -> None:
    text = card(tmp_path, tiny_manifest(accuracy=Accuracy(validation=0.5, test=0.25, top5_validation=0.875, top5_test=0.75)))
    assert "| top-5 accuracy | 87.50% on validation rows, 75.00% on test rows |" in text
    (model,) = header(text)["model-index"]  # type: ignore[misc]
    assert [result["metrics"] for result in model["results"]] == [
        [{"type": "accuracy", "value": 0.5}, {"type": "accuracy", "name": "Top 5 Accuracy", "value": 0.875}],
        [{"type": "accuracy", "value": 0.25}, {"type": "accuracy", "name": "Top 5 Accuracy", "value": 0.75}],
    ]
    assert "top-5" not in card(tmp_path, tiny_manifest())


def test_the_front_is_shown_where_there_is_a_picture_of_it(tmp_path: Path) -> None:
    assert "front.png" not in card(tmp_path, tiny_manifest())
    (tmp_path / "front.png").write_bytes(b"a picture")
    text = card(tmp_path, tiny_manifest())
    assert "(this one: 4.00 ms, 87.5%; the full model: 8.00 ms, 90.0%)](front.png)" in text


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("---\nlicense: apache-2.0\ntags: [x]\n---\n# Model", "apache-2.0"),
        ("---\ntags: [x]\n---\n", None),
        ("# Model\n---\nlicense: mit\n---\n", None),
        ("---\nlicense: mit\n", None),
        ("---\n[\n---\n", None),
        ("---\nlicense: 3\n---\n", None),
    ],
)
def test_the_licence_of_the_base_model(tmp_path: Path, text: str, found: str | None) -> None:
    assert license_of(tmp_path) is None
    (tmp_path / "README.md").write_text(text, encoding="utf-8")
    assert license_of(tmp_path) == found
