from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForTokenClassification, DataCollatorForTokenClassification

from instatune_deploy.finetune.evaluate import BATCH_SIZE, Evaluator
from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.supernet.network import SuperNetwork
from instatune_deploy.supernet.space import SearchSpace
from instatune_deploy.tasks.text_inputs import padded_batches


@pytest.fixture
def evaluator(make_network: Callable[[], SuperNetwork], rows: list[dict[str, Any]], tiny_tokenizer: Any) -> Evaluator:
    network = make_network()
    with torch.no_grad():  # classes about as often as one another
        network.model.classifier.weight.mul_(50)
    columns = {name: [row[name] for row in rows] for name in rows[0] if name != "labels"}
    batches = padded_batches(columns, BATCH_SIZE, tiny_tokenizer)
    return Evaluator(network, batches, np.array([row["labels"] for row in rows]))


def one_by_one(network: SuperNetwork, architecture: Architecture, rows: list[dict[str, Any]]) -> np.ndarray:
    """Each row alone, without padding, by the extracted network."""
    small = network.extract(architecture)
    with torch.no_grad():
        logits = [
            small(**{name: torch.tensor([values]) for name, values in row.items() if name != "labels"}).logits for row in rows
        ]
    return torch.cat(logits).numpy()


@pytest.mark.parametrize(
    "architecture",
    [Architecture((0, 1, 2, 3), (4,) * 4, (64,) * 4), Architecture((3,), (1,), (16,)), Architecture((0, 3), (2, 4), (48, 5))],
)
def test_is_what_each_row_alone_gives(evaluator: Evaluator, rows: list[dict[str, Any]], architecture: Architecture) -> None:
    assert len(rows) > BATCH_SIZE  # more than one batch, the last not full
    expected = one_by_one(evaluator.network, architecture, rows)
    np.testing.assert_allclose(evaluator.logits(architecture), expected, rtol=0, atol=1e-4)
    right = sum(int(logits.argmax()) == row["labels"] for logits, row in zip(expected, rows, strict=True))
    assert 0 < right < len(rows)
    assert evaluator.accuracy(architecture) == right / len(rows)


def test_leaves_the_active_network_and_needs_no_order(evaluator: Evaluator, tiny_space: SearchSpace) -> None:
    active = Architecture((1,), (2,), (7,))
    evaluator.network.activate(active)
    evaluator.network.train()  # dropout must not matter
    first = evaluator.logits(tiny_space.largest())
    evaluator.logits(tiny_space.smallest())
    np.testing.assert_array_equal(evaluator.logits(tiny_space.largest()), first)
    assert evaluator.network.architecture == active


def test_perfect_and_wrong(evaluator: Evaluator, tiny_space: SearchSpace) -> None:
    evaluator.labels = evaluator.logits(tiny_space.largest()).argmax(axis=1)
    assert evaluator.accuracy(tiny_space.largest()) == 1.0
    evaluator.labels = 1 - evaluator.labels
    assert evaluator.accuracy(tiny_space.largest()) == 0.0


def test_every_architecture_is_computed_once(
    evaluator: Evaluator, tiny_space: SearchSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = []
    compute = Evaluator._compute
    monkeypatch.setattr(Evaluator, "_compute", lambda self, member: computed.append(member) or compute(self, member))
    members = [tiny_space.smallest(), tiny_space.largest(), tiny_space.smallest()]
    found = evaluator.evaluate(members)
    assert set(found) == set(members)
    assert evaluator.evaluate(members) == found
    assert found[members[0]] == evaluator.accuracy(members[0])
    assert computed == members[:2]


def test_other_weights_are_computed_anew(evaluator: Evaluator, tiny_space: SearchSpace) -> None:
    before = evaluator.logits(tiny_space.smallest())
    bias = evaluator.network.model.classifier.bias
    with torch.no_grad():
        bias += 1
    np.testing.assert_allclose(evaluator.logits(tiny_space.smallest()), before + 1, atol=1e-5)
    bias.data = bias.data + 1  # another tensor
    np.testing.assert_allclose(evaluator.logits(tiny_space.smallest()), before + 2, atol=1e-5)
    bias.data.add_(1)  # what autograd does not see
    np.testing.assert_allclose(evaluator.logits(tiny_space.smallest()), before + 3, atol=1e-5)


@pytest.mark.parametrize("how", [{"fused": True}, {"foreach": True}])
def test_a_step_of_an_optimizer_is_seen(evaluator: Evaluator, tiny_space: SearchSpace, how: dict[str, bool]) -> None:
    """Fused ones change weights behind autograd's back."""
    smallest = tiny_space.smallest()
    before = evaluator.logits(smallest)
    weight = evaluator.network.model.classifier.weight
    weight.grad = torch.ones_like(weight)
    torch.optim.AdamW([weight], lr=0.1, **how).step()
    assert np.abs(evaluator.logits(smallest) - before).max() > 0.01
    weight.grad = None


def test_an_exception_leaves_the_mode_and_the_active_network(evaluator: Evaluator, tiny_space: SearchSpace) -> None:
    evaluator.network.train()
    evaluator.batches.append(([0], {"input_ids": torch.tensor([[1000]])}))  # no such token
    with pytest.raises(IndexError):
        evaluator.logits(tiny_space.smallest())
    assert {module.training for module in evaluator.network.modules()} == {True}
    assert evaluator.network.architecture == tiny_space.largest()


def test_a_trainer_computes_every_architecture_once(
    build: Any, rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = build()
    kind, computed = type(trainer), []
    compute = kind._accuracy
    monkeypatch.setattr(kind, "_accuracy", lambda self, *given: computed.append(given[0]) or compute(self, *given))
    members = [trainer.space.smallest(), trainer.space.largest(), trainer.space.smallest()]
    found = trainer.evaluate_architectures(members)
    assert trainer.evaluate_architectures(members) == found
    assert computed == members[:2]
    trainer.evaluate_architectures(members[:1], rows[32:])  # other rows
    assert computed == [*members[:2], members[0]]
    with torch.no_grad():
        trainer.model.classifier.bias.copy_(torch.tensor([1e6, 0]))
    share = sum(row["labels"] == 0 for row in rows[32:]) / len(rows[32:])
    assert trainer.evaluate_architectures(members[:1], rows[32:]) == {members[0]: share}
    assert computed == [*members[:2], members[0], members[0]]
    # of several sets of rows the first
    assert trainer.evaluate_architectures(members[:1], {"a": rows[32:], "b": rows[:1]}) == {members[0]: share}


def test_of_tokens_those_with_a_label_count(
    build: Any, make_config: Any, rows: list[dict[str, Any]], tiny_tokenizer: Any
) -> None:
    torch.manual_seed(0)
    model = AutoModelForTokenClassification.from_config(make_config(num_labels=3))
    tagged = [{**row, "labels": [-100, *(token % 3 for token in row["input_ids"][1:-1]), -100]} for row in rows[:20]]
    trainer = build(model=model, train_dataset=tagged, eval_dataset=tagged)
    trainer.data_collator = DataCollatorForTokenClassification(tiny_tokenizer)
    trainer.train()
    right = total = 0
    for row in tagged:
        with torch.no_grad():
            classes = model.eval()(**{name: torch.tensor([row[name]]) for name in row if name != "labels"}).logits[0].argmax(-1)
        right += sum(int(found) == label for found, label in zip(classes, row["labels"], strict=True))
        total += len(row["labels"]) - 2
    assert 0 < right < total
    assert trainer.evaluate_architectures([trainer.space.largest()]) == {trainer.space.largest(): right / total}
