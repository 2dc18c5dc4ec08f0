from __future__ import annotations

from typing import Any

import pytest
import torch

from instatune_deploy.finetune.ordering import batches_for_importance, like_length_batches, ordering_step, reorder
from instatune_deploy.supernet.network import SuperNetwork


def step(network: SuperNetwork, optimizer: torch.optim.Optimizer) -> None:
    network(input_ids=torch.arange(8)[None] + 5, labels=torch.tensor([1])).loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def test_a_training_goes_on_as_if_nothing_had_been_reordered(make_model: Any) -> None:
    """The moments of AdamW follow their weights: after more steps both networks still compute the same."""
    networks = [SuperNetwork(make_model(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)) for _ in range(2)]
    optimizers = [torch.optim.AdamW(network.parameters(), lr=1e-2) for network in networks]
    for network, optimizer in zip(networks, optimizers, strict=True):
        for _ in range(3):
            step(network, optimizer)
    generator = torch.Generator().manual_seed(0)
    orders = [
        (torch.randperm(4, generator=generator).tolist(), torch.randperm(64, generator=generator).tolist()) for _ in range(4)
    ]
    reorder(networks[1], orders, optimizers[1])
    name = "bert.encoder.layer.0.intermediate.dense.weight"
    weights = [network.model.get_parameter(name) for network in networks]
    torch.testing.assert_close(weights[1], weights[0][orders[0][1]])
    for moment in ("exp_avg", "exp_avg_sq"):
        found, before = (
            optimizer.state[weight][moment] for optimizer, weight in zip(reversed(optimizers), reversed(weights), strict=True)
        )
        assert torch.equal(found, before[orders[0][1]])
    for network, optimizer in zip(networks, optimizers, strict=True):
        for _ in range(3):
            step(network, optimizer)
    logits = [network(input_ids=torch.arange(9)[None] + 7).logits for network in networks]
    torch.testing.assert_close(logits[1], logits[0], rtol=1e-3, atol=1e-3)


def test_without_an_optimizer_only_weights_move(make_model: Any) -> None:
    network = SuperNetwork(make_model())
    tokens = torch.arange(9)[None] + 7
    before = network(input_ids=tokens).logits
    reorder(network, [(list(range(4))[::-1], list(range(64))[::-1])] * 4)
    torch.testing.assert_close(network(input_ids=tokens).logits, before, rtol=1e-4, atol=1e-4)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_rows_are_drawn_and_batched_by_length() -> None:
    rows = [{"input_ids": [0] * (1 + index % 7), "index": index} for index in range(50)]
    batches = batches_for_importance(rows, lambda part: {"rows": part}, 20, 8, seed=0)
    found = [row["index"] for batch in batches for row in batch["rows"]]
    assert [len(batch["rows"]) for batch in batches] == [8, 8, 4]
    assert len(set(found)) == 20
    assert max(found) > 30  # not the first ones
    lengths = [len(rows[index]["input_ids"]) for index in found]
    assert lengths == sorted(lengths)
    assert batches_for_importance(rows, lambda part: {"rows": part}, 20, 8, seed=0) == batches
    assert batches_for_importance(rows, lambda part: {"rows": part}, 20, 8, seed=1) != batches
    assert [len(batch["rows"]) for batch in batches_for_importance(iter(rows), lambda part: {"rows": part}, 5, 8, 0)] == [5]
    assert [batch["rows"] for batch in like_length_batches(rows[:2], lambda part: {"rows": part}, 1)] == [[rows[0]], [rows[1]]]
    # images stay in their order, and are looked at when their batch is made
    seen: list[int] = []
    images = ({"pixels": seen.append(index) or index} for index in range(5))
    batches_of_images = like_length_batches(images, lambda part: {"rows": [row["pixels"] for row in part]}, 2)
    assert next(batches_of_images) == {"rows": [0, 1]}
    assert seen == [0, 1]
    assert [batch["rows"] for batch in batches_of_images] == [[2, 3], [4]]


@pytest.mark.parametrize(
    ("full_epochs", "of_epoch", "steps", "cut_short", "expected"),
    [
        (0.4, 10, 20, False, 4),
        (0.4, 8, 16, False, 4),  # 3.2 steps
        (1.0, 10, 20, False, 10),  # longer than a fifth, as it was said
        (0.99, 10, 10, False, 9),  # one step is left
        (0.0, 10, 20, False, 0),
        (0.4, 100, 20, True, 4),
        (0.4, 5, 20, True, 2),
        (0.4, 100, 4, True, 0),
        (0.4, 100, 1, True, 0),
    ],
)
def test_when_it_is_ordered(full_epochs: float, of_epoch: int, steps: int, cut_short: bool, expected: int) -> None:
    assert ordering_step(full_epochs, of_epoch, steps, cut_short) == expected
