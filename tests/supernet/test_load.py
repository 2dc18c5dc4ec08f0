from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from instatune_deploy.errors import BadInput
from instatune_deploy.supernet.load import load_config, load_pretrained, model_from_config, quiet_transformers


@pytest.fixture
def folder(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A checkpoint that a test may damage."""
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "model"))


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_labels_and_weights(tiny_checkpoint: Path) -> None:
    model = load_pretrained(tiny_checkpoint, ["sad", "so-so", "glad"], seed=0)
    assert model.config.num_labels == 3
    assert model.config.id2label == {0: "sad", 1: "so-so", 2: "glad"}
    assert model.config.label2id == {"sad": 0, "so-so": 1, "glad": 2}
    assert model.classifier.out_features == 3
    assert not model.training
    stored = load_file(tiny_checkpoint / "model.safetensors")
    state = model.bert.state_dict()
    assert set(stored) <= set(state)
    assert all(torch.equal(state[name], value) for name, value in stored.items())
    assert {value.dtype for value in state.values()} == {torch.float32}


def test_fresh_classifier_follows_the_seed_alone(tiny_checkpoint: Path) -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    one = load_pretrained(tiny_checkpoint, ["a", "b"], seed=5).classifier.weight
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(one, load_pretrained(tiny_checkpoint, ["a", "b"], seed=5).classifier.weight)
    assert not torch.equal(one, load_pretrained(tiny_checkpoint, ["a", "b"], seed=6).classifier.weight)


def test_own_classifier_is_kept_or_made_anew_for_other_labels(tiny_checkpoint: Path, tmp_path: Path) -> None:
    model = load_pretrained(tiny_checkpoint, ["a", "b"], seed=0)
    model.save_pretrained(tmp_path)
    again = load_pretrained(tmp_path, ["c", "d"], seed=1)
    assert torch.equal(again.classifier.weight, model.classifier.weight)
    assert load_pretrained(tmp_path, ["a", "b", "c"], seed=1).classifier.weight.shape == (3, 32)


def test_half_precision_becomes_float32(folder: Path) -> None:
    path = folder / "model.safetensors"
    save_file({name: value.half() for name, value in load_file(path).items()}, path, {"format": "pt"})
    change_config(folder, dtype="float16")
    model = load_pretrained(folder, ["a", "b"], seed=0)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("model_type", ["gpt2", "distilbert", "convnext"])
def test_unsupported_type(folder: Path, model_type: str) -> None:
    change_config(folder, model_type=model_type)
    with pytest.raises(BadInput, match=rf"model: model type '{model_type}' is not supported; supported are: bert, "):
        load_pretrained(folder, ["a", "b"], seed=0)


@pytest.mark.parametrize("text", [None, "", "{broken", "[]", "3", "{}", '{"model_type": "no-such-model"}', '{"hidden_size": 3}'])
def test_configuration_that_cannot_be_used(folder: Path, text: str | None) -> None:
    if text is None:
        (folder / "config.json").unlink()
    else:
        (folder / "config.json").write_text(text)
    for load in (load_config, lambda place: load_pretrained(place, ["a", "b"], seed=0)):
        with pytest.raises(BadInput, match=r"model: .+") as caught:
            load(folder)
        assert "\n" not in caught.value.message


def test_configuration_of_impossible_sizes(folder: Path) -> None:
    change_config(folder, num_attention_heads=5)
    with pytest.raises(BadInput, match=r"model: the model cannot be loaded: .*multiple of the number of attention"):
        load_pretrained(folder, ["a", "b"], seed=0)


def test_no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(BadInput, match=r"model: the model cannot be loaded: .*model\.safetensors"):
        load_pretrained(folder, ["a", "b"], seed=0)


def test_pickles_are_not_read(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    with pytest.raises(BadInput, match=r"model: the model cannot be loaded: .*safetensors"):
        load_pretrained(folder, ["a", "b"], seed=0)


@pytest.mark.parametrize("kept_bytes", [0, 5, 200, 5000])
def test_cut_weights(folder: Path, kept_bytes: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept_bytes])
    with pytest.raises(BadInput, match=r"model: the model cannot be loaded: .+"):
        load_pretrained(folder, ["a", "b"], seed=0)


def test_weights_of_another_architecture_are_not_replaced_by_random_ones(folder: Path) -> None:
    load_pretrained(folder, ["a", "b"], seed=0).save_pretrained(folder)  # names now begin with "bert."
    change_config(folder, model_type="roberta")
    with pytest.raises(BadInput, match=r"model: the weights are not those of config\.json: .*roberta\.embeddings"):
        load_pretrained(folder, ["a", "b"], seed=0)


def test_weights_of_other_sizes_are_not_replaced_by_random_ones(folder: Path) -> None:
    change_config(folder, intermediate_size=48)
    with pytest.raises(BadInput, match=r"model: the weights are not those of config\.json: .*intermediate\.dense"):
        load_pretrained(folder, ["a", "b"], seed=0)


def test_a_missing_layer_is_not_replaced_by_a_random_one(folder: Path) -> None:
    change_config(folder, num_hidden_layers=5)
    with pytest.raises(BadInput, match=r"model: the weights are not those of config\.json: .*encoder\.layer\.4\."):
        load_pretrained(folder, ["a", "b"], seed=0)


def test_a_missing_pooler_starts_from_the_seed(folder: Path) -> None:
    path = folder / "model.safetensors"
    weights = {name: value for name, value in load_file(path).items() if not name.startswith("pooler")}
    save_file(weights, path, {"format": "pt"})
    one, other = (load_pretrained(folder, ["a", "b"], seed=3).bert.pooler.dense.weight for _ in range(2))
    assert torch.equal(one, other)


def test_model_from_config(tiny_config: Any) -> None:
    model = model_from_config(tiny_config)
    assert type(model).__name__ == "BertForSequenceClassification"
    assert model.config.num_hidden_layers == 4


def test_quiet_restores_what_was_set() -> None:
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_info()
    try:
        with quiet_transformers():
            assert logging.get_verbosity() == logging.ERROR
        assert logging.get_verbosity() == logging.INFO
    finally:
        logging.set_verbosity(before)


def test_a_model_that_no_onnx_file_holds_is_refused(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("instatune_deploy.supernet.load.LARGEST_BYTES", 10_000)
    with pytest.raises(BadInput, match="more than one ONNX file holds"):
        load_pretrained(tiny_checkpoint, ["a", "b"], seed=0)
