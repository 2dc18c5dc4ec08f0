"""The same numbers as the reference implementation's, which ``make_reference.py`` wrote down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from instatune_deploy.supernet.beit3.convert import convert
from instatune_deploy.supernet.beit3.model import Beit3Model
from instatune_deploy.supernet.load import from_folder, load_config

FILE = Path(__file__).with_name("reference.safetensors")


@pytest.fixture(scope="module")
def reference() -> dict[str, torch.Tensor]:
    with safe_open(FILE, framework="pt") as opened:
        return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - no dictionary


@pytest.fixture(scope="module")
def model(reference: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Through the whole way: a .pth file, converted, loaded."""
    folder = tmp_path_factory.mktemp("reference")
    state = {name.removeprefix("state."): value for name, value in reference.items() if name.startswith("state.")}
    torch.save(state, folder / "reference.pth")
    with safe_open(FILE, framework="pt") as opened:
        heads = int(opened.metadata()["heads"])
    made = convert(folder / "reference.pth", folder / "model", attention_heads=heads)
    assert (made.head, made.left_out) == ("none", ("the mask token of pre-training",))
    model, found = from_folder(Beit3Model, folder / "model", load_config(folder / "model"))
    assert not any(found.values())
    return model.eval()


def test_the_file_says_where_it_comes_from() -> None:
    assert FILE.stat().st_size < 400_000
    with safe_open(FILE, framework="pt") as opened:
        facts = opened.metadata()
    assert facts["computed_with"].startswith("torchscale 0.3.0 (MIT licence, Copyright (c) Microsoft)")
    assert facts["licence"].endswith("Apache-2.0")


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("kind", ["image", "text", "joint"])
@torch.no_grad()
def test_the_same_output(model: Any, reference: dict[str, torch.Tensor], kind: str, attention: str) -> None:
    model.set_attn_implementation(attention)
    inputs = {}
    if kind != "text":
        inputs["pixel_values"] = reference["input.image"]
    if kind != "image":
        inputs["input_ids"] = reference["input.text"]
        inputs["attention_mask"] = 1 - reference["input.padding"].long()
        assert inputs["attention_mask"].sum().item() == 10  # of 12: there is padding
    expected = reference[f"output.{kind}"]
    assert expected.abs().mean() > 0.5
    found = model(**inputs).last_hidden_state
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < 1e-5


def test_sizes(model: Any) -> None:
    config = model.config
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (32, 2, 4)
    assert (config.intermediate_size, config.image_size, config.patch_size, config.num_channels) == (64, 32, 16, 3)
    assert (config.vocab_size, config.max_position_embeddings) == (50, 16)
