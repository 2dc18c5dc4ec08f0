from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModel, DeiTForImageClassificationWithTeacher, Dinov2Config, Dinov2ForImageClassification

from instatune_deploy.errors import BadInput
from instatune_deploy.supernet.classifiers import Classifier, classifier_of


@pytest.mark.parametrize("model_type", ["bert", "roberta", "electra", "vit", "deit"])
def test_it_is_what_the_model_starts_from(make_model: Callable[..., Any], tmp_path: Path, model_type: str) -> None:
    model = make_model(model_type, num_labels=3)
    model.save_pretrained(tmp_path)
    assert classifier_of(tmp_path, model.config) == Classifier(3, True)
    # in several files, too
    model.save_pretrained(tmp_path / "parts", max_shard_size="20kB")
    assert len(list((tmp_path / "parts").glob("*.safetensors"))) > 1
    assert classifier_of(tmp_path / "parts", model.config) == Classifier(3, True)


@pytest.mark.parametrize("model_type", ["bert", "vit"])
def test_a_backbone_has_none(make_config: Callable[..., Any], tmp_path: Path, model_type: str) -> None:
    """Whatever its config.json says."""
    config = make_config(model_type, num_labels=7)
    AutoModel.from_config(config).save_pretrained(tmp_path)
    config.architectures = ["ViTForImageClassification"]
    assert classifier_of(tmp_path, config) is None


def test_those_that_read_more(make_config: Callable[..., Any], tmp_path: Path) -> None:
    """DINOv2's the mean of the patches, DeiT's the distillation token."""
    dinov2 = Dinov2Config(hidden_size=32, num_hidden_layers=1, num_attention_heads=4, image_size=14, num_labels=4)
    deit = make_config("deit", num_labels=4)
    for name, model in {"a": Dinov2ForImageClassification(dinov2), "b": DeiTForImageClassificationWithTeacher(deit)}.items():
        model.save_pretrained(tmp_path / name)
        assert classifier_of(tmp_path / name, model.config) == Classifier(4, False)


def test_what_is_no_safetensors(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"pictures")
    with pytest.raises(BadInput, match=r"model\.safetensors: the weights cannot be read"):
        classifier_of(tmp_path, None)
