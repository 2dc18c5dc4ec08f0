from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from instatune_deploy.supernet.beit3.heads import Beit3ForImageClassification
from instatune_deploy.supernet.beit3.model import Beit3Model

from .tiny import MOST_TOKENS, PATCHES, VOCABULARY, images, make_config, make_model, texts

MODEL = make_model()
SEEDS = st.integers(0, 2**20)


@given(tokens=st.integers(1, 6), padding=st.integers(0, 4), seed=SEEDS, with_image=st.booleans())
@torch.no_grad()
def test_padding_changes_nothing_for_real_tokens(tokens: int, padding: int, seed: int, with_image: bool) -> None:
    image = images(2) if with_image else None
    text, other = texts(2, tokens, seed), texts(2, padding, seed + 1)
    mask = torch.tensor([[1] * tokens + [0] * padding] * 2)
    alone = MODEL(image, text).last_hidden_state
    padded = MODEL(image, torch.cat([text, other], dim=1), mask).last_hidden_state
    assert torch.allclose(padded[:, : alone.shape[1]], alone, atol=1e-5)


@given(tokens=st.integers(1, MOST_TOKENS), seed=SEEDS)
@torch.no_grad()
def test_an_image_beside_a_masked_text_is_an_image_alone(tokens: int, seed: int) -> None:
    nothing = torch.zeros(2, tokens, dtype=torch.long)
    found = MODEL(images(2), texts(2, tokens, seed), nothing).last_hidden_state[:, : PATCHES + 1]
    assert torch.allclose(found, MODEL(images(2)).last_hidden_state, atol=1e-5)


@torch.no_grad()
def test_text_and_image_read_each_other() -> None:
    joint = MODEL(images(2), texts(2, 3)).last_hidden_state
    assert joint.shape == (2, PATCHES + 1 + 3, 16)
    assert (joint[:, : PATCHES + 1] - MODEL(images(2)).last_hidden_state).abs().max() > 1e-2
    assert (joint[:, PATCHES + 1 :] - MODEL(None, texts(2, 3)).last_hidden_state).abs().max() > 1e-2


@torch.no_grad()
def test_embeddings_by_hand() -> None:
    embeddings = MODEL.embeddings
    found = embeddings(images(1), texts(1, 2), torch.tensor([[1, 0]]))[0]
    vision, text = embeddings.vision, embeddings.text
    patch = images(1)[0, :, 4:, :4]  # below the first one, so the third
    projected = (vision.patch_embeddings.projection.weight * patch).sum(dim=(1, 2, 3)) + vision.patch_embeddings.projection.bias
    assert torch.allclose(found[3], projected + vision.position_embeddings[0, 3], atol=1e-5)
    assert torch.allclose(found[0], vision.cls_token[0, 0] + vision.position_embeddings[0, 0])
    word = text.word_embeddings.weight[texts(1, 2)[0, 0]]
    assert torch.allclose(found[5], word + text.position_embeddings.weight[0])
    assert not found[6].any()


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@torch.no_grad()
def test_hidden_states(attention: str) -> None:
    model = make_model()
    model.set_attn_implementation(attention)
    output = model(images(2), texts(2, 3), output_hidden_states=True)
    assert len(output.hidden_states) == 3
    lengths = {"A": PATCHES + 1, "B": 3}
    hidden = model.embeddings(images(2), texts(2, 3))
    for layer, state in zip(model.layers, output.hidden_states, strict=False):
        assert torch.equal(state, hidden)
        hidden = layer(hidden, None, lengths)
    assert torch.allclose(output.hidden_states[-1], hidden, atol=1e-6)
    vision, text = hidden[:, : PATCHES + 1], hidden[:, PATCHES + 1 :]
    expected = torch.cat([model.norm["A"](vision), model.norm["B"](text)], dim=1)
    assert torch.allclose(output.last_hidden_state, expected, atol=1e-5)
    assert model(images(2)).hidden_states is None


@pytest.mark.parametrize("language", [True, False])
@pytest.mark.parametrize("final_norm", [True, False])
@torch.no_grad()
def test_saved_and_loaded_is_the_same(tmp_path: Path, language: bool, final_norm: bool) -> None:
    model = make_model(lambda config: Beit3Model(config, language, final_norm))
    model.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    again = Beit3Model.from_pretrained(tmp_path, language=language, final_norm=final_norm).eval()
    assert {name: value.tolist() for name, value in again.state_dict().items()} == {
        name: value.tolist() for name, value in model.state_dict().items()
    }
    assert torch.equal(again(images(2)).last_hidden_state, model(images(2)).last_hidden_state)


def test_without_language_there_is_nothing_of_it() -> None:
    names = set(make_model(lambda config: Beit3Model(config, language=False)).state_dict())
    assert names == {name for name in MODEL.state_dict() if ".B." not in name and ".text." not in name}


@torch.no_grad()
def test_a_model_for_images_takes_its_weights_from_one_for_both(tmp_path: Path) -> None:
    MODEL.save_pretrained(tmp_path)
    model = Beit3ForImageClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert model[1]["missing_keys"] == {"norm.weight", "norm.bias", "classifier.weight", "classifier.bias"}
    states = [one(images(2), output_hidden_states=True).hidden_states[-1] for one in (model[0].eval(), MODEL)]
    assert torch.equal(*states)


def test_fresh_weights() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Beit3Model(make_config(hidden_size=64, initializer_range=0.1))
    for parameter in (model.embeddings.vision.position_embeddings, model.layers[0].mlp["B"].fc1.weight):
        assert 0.05 < parameter.std().item() < 0.15
    assert model.embeddings.vision.position_embeddings.abs().max() <= 2  # cut off, as transformers does it
    assert not model.layers[0].attention.q_proj["B"].bias.any()
    assert torch.equal(model.norm["B"].weight, torch.ones(64))


def test_checkpointed_gradients_are_the_same() -> None:
    gradients = []
    for checkpointing in (False, True):
        model = make_model().train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        model(images(2), texts(2, 3)).last_hidden_state.square().sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert all(gradient is not None for gradient in gradients[0])
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(*gradients, strict=True))


def test_dropout_is_that_of_the_configuration() -> None:
    model = make_model(hidden_dropout_prob=0.2, attention_probs_dropout_prob=0.4).train()
    layer = model.layers[0]
    assert (layer.dropout.p, layer.attention.dropout.p, model.embeddings.text.dropout.p) == (0.2, 0.4, 0.2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        one, other = (model(images(2), texts(2, 3)).last_hidden_state for _ in range(2))
    assert not torch.equal(one, other)


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({}, "needs pixel_values, input_ids or both"),
        ({"input_ids": texts(1, MOST_TOKENS + 1)}, "11 tokens of text are more than the model has positions"),
        ({"pixel_values": torch.zeros(1, 3, 12, 8)}, "doesn't match model"),
    ],
)
def test_inputs_that_are_none(inputs: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        MODEL(**inputs)


def test_a_text_for_a_model_of_images() -> None:
    model = make_model(lambda config: Beit3Model(config, language=False))
    with pytest.raises(ValueError, match="for images alone"):
        model(images(1), texts(1, 2))


def test_input_embeddings() -> None:
    model = make_model()
    assert model.get_input_embeddings() is model.embeddings.text.word_embeddings
    model.resize_token_embeddings(VOCABULARY - 8)
    assert model.embeddings.text.word_embeddings.weight.shape == (VOCABULARY - 8, 16)
    alone = make_model(Beit3ForImageClassification)
    assert alone.get_input_embeddings() is alone.beit3.embeddings.vision.patch_embeddings
