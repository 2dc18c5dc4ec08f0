from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForImageClassification, AutoModelForVisualQuestionAnswering

from instatune_deploy.supernet.beit3.config import Beit3Config
from instatune_deploy.supernet.load import from_folder, load_config
from instatune_deploy.supernet.own_models import OWN_MODELS, register_own_models

from .beit3.tiny import images, make_model, texts

CLASSES = {
    AutoModel: {"pixel_values": images(1), "input_ids": texts(1, 3)},
    AutoModelForImageClassification: {"pixel_values": images(1)},
    AutoModelForVisualQuestionAnswering: {"pixel_values": images(1), "input_ids": texts(1, 3)},
}


def test_registering_again_changes_nothing() -> None:
    register_own_models()
    assert isinstance(AutoConfig.for_model("beit3", hidden_size=48), Beit3Config)
    (beit3,) = OWN_MODELS
    assert {auto: auto._model_mapping[Beit3Config] for auto in CLASSES} == beit3.classes


@pytest.mark.parametrize("auto", CLASSES, ids=lambda auto: auto.__name__)
@torch.no_grad()
def test_auto_classes_load_them_without_code_in_the_folder(tmp_path: Path, auto: Any) -> None:
    (beit3,) = OWN_MODELS
    model = make_model(beit3.classes[auto])
    model.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["model_type"] == "beit3"
    assert "auto_map" not in saved
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}
    again, found = from_folder(auto, tmp_path, load_config(tmp_path))
    assert not any(found.values())
    assert type(again) is type(model)
    assert torch.equal(again.eval()(**CLASSES[auto])[0], model(**CLASSES[auto])[0])
