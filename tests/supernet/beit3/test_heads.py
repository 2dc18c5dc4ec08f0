from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from instatune_deploy.supernet.beit3.config import Beit3Config
from instatune_deploy.supernet.beit3.heads import (
    Beit3ForImageClassification,
    Beit3ForVisualQuestionAnswering,
    Beit3ForVisualReasoning,
)
from instatune_deploy.supernet.load import from_folder, load_config

from .tiny import LABELS, PATCHES, images, make_model, texts

MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
INPUTS: dict[Any, dict[str, torch.Tensor]] = {
    Beit3ForImageClassification: {"pixel_values": images(2)},
    Beit3ForVisualQuestionAnswering: {"pixel_values": images(2), "input_ids": texts(2, 4), "attention_mask": MASK},
    Beit3ForVisualReasoning: {"pixel_values": images(2, 2), "input_ids": texts(2, 4), "attention_mask": MASK},
}


def normed(hidden: torch.Tensor, norm: Any) -> torch.Tensor:
    """LayerNorm in its own words."""
    centred = hidden - hidden.mean(dim=-1, keepdim=True)
    return centred / (centred.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt() * norm.weight + norm.bias


def linear(hidden: torch.Tensor, module: Any) -> torch.Tensor:
    return hidden @ module.weight.T + module.bias


def gelu(hidden: torch.Tensor) -> torch.Tensor:
    return hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))


@torch.no_grad()
def test_image_classification() -> None:
    model = make_model(Beit3ForImageClassification)
    hidden = model.beit3(images(2)).last_hidden_state
    mean = sum(hidden[:, 1 + patch] for patch in range(PATCHES)) / PATCHES
    expected = linear(normed(mean, model.norm), model.classifier)
    assert torch.allclose(model(images(2)).logits, expected, atol=1e-5)
    assert expected.shape == (2, LABELS)


@torch.no_grad()
def test_visual_question_answering() -> None:
    model = make_model(Beit3ForVisualQuestionAnswering)
    inputs = INPUTS[Beit3ForVisualQuestionAnswering]
    token = model.beit3(**inputs).last_hidden_state[:, 0]
    pooled = linear(normed(token, model.pooler.norm), model.pooler.dense).tanh()
    first, norm, _, second = model.classifier
    expected = linear(gelu(normed(linear(pooled, first), norm)), second)
    assert torch.allclose(model(**inputs).logits, expected, atol=1e-5)
    assert (first.out_features, expected.shape) == (32, (2, LABELS))


@torch.no_grad()
def test_visual_reasoning() -> None:
    """The second row by itself, its images one by one, without its padding."""
    model = make_model(Beit3ForVisualReasoning)
    known = []
    for image in INPUTS[Beit3ForVisualReasoning]["pixel_values"][1]:
        hidden = model.beit3(image[None], texts(2, 4)[1:, :2]).last_hidden_state[0]
        known += [hidden[0], hidden[PATCHES + 1]]  # class token and first word
    before, first, norm, _, second = model.classifier
    expected = linear(gelu(normed(linear(normed(torch.cat(known), before), first), norm)), second)
    assert torch.allclose(model(**INPUTS[Beit3ForVisualReasoning]).logits[1], expected, atol=1e-5)


@torch.no_grad()
def test_the_order_of_two_images_matters() -> None:
    model = make_model(Beit3ForVisualReasoning)
    inputs = dict(INPUTS[Beit3ForVisualReasoning])
    before = model(**inputs).logits
    inputs["pixel_values"] = inputs["pixel_values"].flip(1)
    assert (model(**inputs).logits - before).abs().max() > 1e-2


@torch.no_grad()
def test_losses() -> None:
    numbers = torch.tensor([2, 0])
    for kind in (Beit3ForImageClassification, Beit3ForVisualReasoning):
        output = make_model(kind)(**INPUTS[kind], labels=numbers)
        expected = -output.logits.log_softmax(dim=-1)[torch.arange(2), numbers].mean()
        assert torch.allclose(output.loss, expected)
    scores = torch.tensor([[1.0, 0.3, 0.0], [0.0, 0.0, 0.6]])
    output = make_model(Beit3ForVisualQuestionAnswering)(**INPUTS[Beit3ForVisualQuestionAnswering], labels=scores)
    right = output.logits.sigmoid()
    each = -(scores * right.log() + (1 - scores) * (1 - right).log())
    assert torch.allclose(output.loss, each.sum(dim=1).mean())


@pytest.mark.parametrize("kind", INPUTS, ids=lambda kind: kind.__name__)
@torch.no_grad()
def test_saved_and_loaded_is_the_same(tmp_path: Path, kind: Any) -> None:
    model = make_model(kind)
    model.save_pretrained(tmp_path)
    again, found = from_folder(kind, tmp_path, load_config(tmp_path))
    assert not any(found.values())
    assert torch.equal(again.eval()(**INPUTS[kind]).logits, model(**INPUTS[kind]).logits)
    assert len(model(**INPUTS[kind], output_hidden_states=True).hidden_states) == 3


@pytest.mark.parametrize("kind", INPUTS, ids=lambda kind: kind.__name__)
def test_what_is_trained(kind: Any) -> None:
    """All of it, but for what the last layer does with words that no head reads afterwards."""
    model = make_model(kind).train()
    model(**INPUTS[kind]).logits.square().sum().backward()
    idle = {name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()}
    unread = set()
    if kind is Beit3ForVisualQuestionAnswering:
        parts = (*(f"attention.{name}.B" for name in ("q_proj", "inner_norm", "o_proj")), "mlp_norm.B")
        parts += tuple(f"mlp.B.{name}" for name in ("fc1", "inner_norm", "fc2"))
        unread = {f"beit3.layers.1.{part}.{name}" for part in parts for name in ("weight", "bias")}
    # the softmax takes no notice of biases of keys
    assert {name for name in idle if "k_proj" not in name} == unread


def test_a_classifier_for_other_labels_keeps_the_rest(tmp_path: Path) -> None:
    model = make_model(Beit3ForVisualQuestionAnswering)
    model.save_pretrained(tmp_path)
    config = load_config(tmp_path)
    config.num_labels = 7
    again, found = from_folder(Beit3ForVisualQuestionAnswering, tmp_path, config)
    assert {name for name, *_ in found["mismatched_keys"]} == {"classifier.3.weight", "classifier.3.bias"}
    assert isinstance(again.classifier[3], nn.Linear)
    assert again.classifier[3].out_features == 7
    assert torch.equal(again.classifier[0].weight, model.classifier[0].weight)


@pytest.mark.parametrize(
    ("kind", "image_size", "labels", "millions"),
    [
        (Beit3ForImageClassification, 224, 1000, 87),
        (Beit3ForVisualQuestionAnswering, 480, 3129, 228),
        (Beit3ForVisualReasoning, 224, 2, 226),
    ],
)
def test_base_has_as_many_parameters_as_the_official_one(kind: Any, image_size: int, labels: int, millions: int) -> None:
    """The tables of fine-tuned models in microsoft/unilm's README of beit3."""
    with torch.device("meta"):
        model = kind(Beit3Config(image_size=image_size, num_labels=labels))
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6) == millions
