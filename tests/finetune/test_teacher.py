from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForTokenClassification

from instatune_deploy.errors import BadInput
from instatune_deploy.finetune.teacher import load_teacher
from instatune_deploy.supernet.load import load_pretrained
from instatune_deploy.supernet.network import SuperNetwork

from .conftest import LABELS


@pytest.fixture(scope="module")
def network(make_network: Callable[[], SuperNetwork]) -> SuperNetwork:
    return make_network()


@pytest.fixture
def save(tiny_checkpoint: Path, tmp_path: Path) -> Callable[..., Path]:
    """A fine-tuned checkpoint (of other labels)."""

    def make(labels: list[str] = LABELS) -> Path:
        model = load_pretrained(tiny_checkpoint, labels, seed=7)
        model.save_pretrained(tmp_path / "teacher")
        return tmp_path / "teacher"

    return make


def test_a_folder(network: SuperNetwork, save: Callable[..., Path], tiny_checkpoint: Path) -> None:
    teacher = load_teacher(save(), network)
    expected = load_pretrained(tiny_checkpoint, LABELS, seed=7)
    assert all(torch.equal(value, expected.state_dict()[name]) for name, value in teacher.state_dict().items())
    assert not teacher.training
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


def test_a_folder_with_a_head_for_every_token(make_config: Callable[..., Any], tmp_path: Path) -> None:
    torch.manual_seed(1)
    first, second = (AutoModelForTokenClassification.from_config(make_config()) for _ in range(2))
    first.save_pretrained(tmp_path / "teacher")
    teacher = load_teacher(tmp_path / "teacher", SuperNetwork(second))
    assert type(teacher) is type(second)
    assert all(torch.equal(value, first.state_dict()[name]) for name, value in teacher.state_dict().items())


def test_a_folder_whose_weights_have_older_names(make_model: Callable[..., Any], tmp_path: Path) -> None:
    model = make_model("vit")
    model.save_pretrained(tmp_path / "teacher")  # as vit.encoder.layer.0..., for older transformers
    teacher = load_teacher(tmp_path / "teacher", SuperNetwork(make_model("vit", seed=1)))
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in teacher.state_dict().items())


def test_a_model(network: SuperNetwork, tiny_checkpoint: Path) -> None:
    model = load_pretrained(tiny_checkpoint, LABELS, seed=7)
    assert load_teacher(model.train(), network) is model
    assert not model.training


def test_names_that_nobody_gave_say_nothing(network: SuperNetwork, save: Callable[..., Path]) -> None:
    load_teacher(save(["LABEL_0", "LABEL_1"]), network)


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (["positive", "negative"], "other labels than the model: positive, negative, not negative, positive$"),
        (["a", "b", "c"], "other labels than the model: a, b, c, not negative, positive$"),
        (["LABEL_0", "LABEL_1", "LABEL_2"], "other labels than the model: LABEL_0, LABEL_1, LABEL_2, not"),
    ],
)
def test_other_labels(network: SuperNetwork, save: Callable[..., Path], labels: list[str], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        load_teacher(save(labels), network)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"num_hidden_layers": 3}, "layers 3, not 4$"),
        ({"intermediate_size": 32}, "mlp width 32, not 64$"),
        ({"num_attention_heads": 2}, "heads 2, not 4$"),
    ],
)
def test_another_shape(
    network: SuperNetwork, make_config: Callable[..., Any], tiny_checkpoint: Path, changes: dict[str, int], says: str
) -> None:
    from transformers import AutoModelForSequenceClassification

    sizes = {"vocab_size": network.config.vocab_size, **changes}
    model = AutoModelForSequenceClassification.from_config(make_config(**sizes))
    with pytest.raises(BadInput, match=f"^teacher: another shape than the model: {says}"):
        load_teacher(model, network)


def test_another_architecture(network: SuperNetwork, make_model: Callable[..., Any], tmp_path: Path) -> None:
    make_model("electra").save_pretrained(tmp_path)
    with pytest.raises(BadInput, match=r"another architecture than the model: 'electra', not 'bert'$"):
        load_teacher(tmp_path, network)


def test_one_that_is_not_fine_tuned(network: SuperNetwork, tiny_checkpoint: Path) -> None:
    with pytest.raises(BadInput, match=r"not fine-tuned: '.*' is missing$"):
        load_teacher(tiny_checkpoint, network)


def test_none_there(network: SuperNetwork, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"missing: no such folder$"):
        load_teacher(tmp_path / "missing", network)
    with pytest.raises(BadInput, match=r"has no config\.json"):
        load_teacher(tmp_path, network)
