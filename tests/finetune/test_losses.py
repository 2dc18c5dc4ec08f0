from __future__ import annotations

from math import log

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from instatune_deploy.finetune.losses import Outcome, distillation, full_loss, instatune_loss, sub_loss

# logits whose softmax is (1/2, 1/2) and (4/5, 1/5)
EVEN, LEANING = torch.zeros(1, 2), torch.tensor([[log(4.0), 0.0]])


def test_distillation_by_hand() -> None:
    # teacher (1/2, 1/2), student (4/5, 1/5): 1/2 ln((1/2)/(4/5)) + 1/2 ln((1/2)/(1/5)) = 1/2 ln(5/8 * 5/2) = ln(5/4)
    assert distillation(LEANING, EVEN).item() == pytest.approx(log(5 / 4), rel=1e-6)
    # the other way round: 4/5 ln(8/5) + 1/5 ln(2/5)
    assert distillation(EVEN, LEANING).item() == pytest.approx(4 / 5 * log(8 / 5) + 1 / 5 * log(2 / 5), rel=1e-6)
    # mean over the batch: the second row agrees
    rows = distillation(torch.cat([LEANING, EVEN]), torch.cat([EVEN, EVEN]))
    assert rows.item() == pytest.approx(log(5 / 4) / 2, rel=1e-6)


def test_temperature_by_hand() -> None:
    # at temperature 2 the student's logits (ln 4, 0) are (ln 2, 0), so (2/3, 1/3);
    # 1/2 ln(3/4) + 1/2 ln(3/2) = 1/2 ln(9/8), times 2 squared
    assert distillation(LEANING, EVEN, temperature=2).item() == pytest.approx(2 * log(9 / 8), rel=1e-6)


def outcome(logits: torch.Tensor, labels: torch.Tensor) -> Outcome:
    return Outcome(cross_entropy(logits.float(), labels), logits)


def loss_of(
    full: torch.Tensor,
    subs: list[torch.Tensor],
    labels: torch.Tensor,
    alpha: float,
    temperature: float = 1,
    teacher: torch.Tensor | None = None,
    gamma: float = 1,
) -> torch.Tensor:
    outcomes = [outcome(sub, labels) for sub in subs]
    return instatune_loss(outcome(full, labels), outcomes, teacher, alpha, gamma, temperature)


# the full network is even, CE = ln 2; the sub-network leans to the right class, CE = ln(5/4); the teacher leans the other way.
# KL(S_i, S) = ln(5/4); KL(S, T) = 1/5 ln(2/5) + 4/5 ln(8/5); KL(S_i, T) = 1/5 ln((1/5)/(4/5)) + 4/5 ln((4/5)/(1/5)) = 3/5 ln 4
RIGHT = torch.tensor([0])
TEACHER = torch.tensor([[0.0, log(4.0)]])
FULL_TEACHER, SUB_TEACHER = 1 / 5 * log(2 / 5) + 4 / 5 * log(8 / 5), 3 / 5 * log(4)


def test_low_cost_by_hand() -> None:
    loss = loss_of(EVEN, [LEANING], RIGHT, alpha=0.3)
    assert loss.item() == pytest.approx(0.3 * (log(2) + log(5 / 4)) + 0.7 * log(5 / 4), rel=1e-6)
    # a second sub-network, even itself: CE = ln 2, KL = 0; of the two the mean counts
    loss = loss_of(EVEN, [LEANING, EVEN], RIGHT, alpha=0.3)
    subs = (0.3 * log(5 / 4) + 0.7 * log(5 / 4) + 0.3 * log(2)) / 2
    assert loss.item() == pytest.approx(0.3 * log(2) + subs, rel=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.25, 1.0])
def test_with_a_teacher_by_hand(gamma: float) -> None:
    loss = loss_of(EVEN, [LEANING], RIGHT, alpha=0.3, teacher=TEACHER, gamma=gamma)
    taught = gamma * FULL_TEACHER + (1 - gamma) * log(5 / 4) + gamma * SUB_TEACHER
    assert loss.item() == pytest.approx(0.3 * (log(2) + log(5 / 4)) + 0.7 * taught, rel=1e-6)


def test_the_parts_of_the_networks() -> None:
    full, sub = outcome(EVEN, RIGHT), outcome(LEANING, RIGHT)
    assert full_loss(full, TEACHER, 0.3, 0.5, 1).item() == pytest.approx(0.3 * log(2) + 0.35 * FULL_TEACHER, rel=1e-6)
    assert full_loss(full, None, 0.3, 0.5, 1).item() == pytest.approx(0.3 * log(2), rel=1e-6)
    expected = 0.3 * log(5 / 4) + 0.35 * log(5 / 4) + 0.35 * SUB_TEACHER
    assert sub_loss(sub, EVEN, TEACHER, 0.3, 0.5, 1).item() == pytest.approx(expected, rel=1e-6)


def test_without_a_teacher_gamma_counts_as_zero() -> None:
    assert loss_of(EVEN, [LEANING], RIGHT, 0.3, gamma=1) == loss_of(EVEN, [LEANING], RIGHT, 0.3, teacher=TEACHER, gamma=0)


def test_without_sub_networks_only_the_full_network_is_left() -> None:
    assert loss_of(LEANING, [], torch.tensor([1]), 0.3).item() == pytest.approx(0.3 * log(5), rel=1e-6)


def test_extremes_of_alpha() -> None:
    assert loss_of(EVEN, [LEANING], RIGHT, 1).item() == pytest.approx(log(2) + log(5 / 4), rel=1e-6)
    full, sub = EVEN.clone().requires_grad_(), LEANING.clone().requires_grad_()
    loss = loss_of(full, [sub], RIGHT, 0)
    assert loss.item() == pytest.approx(log(5 / 4), rel=1e-6)
    loss.backward()
    assert full.grad is not None
    assert not full.grad.any()  # labels do not count, and no gradient of the distillation reaches the teacher


def test_no_gradient_of_the_distillation_reaches_the_teachers() -> None:
    full, sub, teacher = EVEN.clone().requires_grad_(), LEANING.clone().requires_grad_(), TEACHER.clone().requires_grad_()
    loss_of(full, [sub], RIGHT, 0.3).backward()
    # 0.3 times softmax minus one-hot: 0.3 * (1/2 - 1, 1/2)
    torch.testing.assert_close(full.grad, torch.tensor([[-0.15, 0.15]]))
    # student: 0.3 * (4/5 - 1, 1/5) + 0.7 * (4/5 - 1/2, 1/5 - 1/2)
    torch.testing.assert_close(sub.grad, torch.tensor([[-0.06 + 0.21, 0.06 - 0.21]]))
    loss_of(full, [sub], RIGHT, 0.3, teacher=teacher).backward()
    assert teacher.grad is None


def test_half_precision_is_computed_in_float32() -> None:
    loss = loss_of(EVEN.bfloat16(), [LEANING.bfloat16()], RIGHT, 0.3, teacher=TEACHER.bfloat16())
    assert loss.dtype == torch.float32


@given(st.integers(0, 999), st.floats(0.5, 8))
def test_distillation_is_never_negative_and_zero_for_the_teacher_itself(seed: int, temperature: float) -> None:
    student, teacher = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(seed))
    assert distillation(student, teacher, temperature).item() > 0
    assert distillation(teacher, teacher, temperature).item() == pytest.approx(0, abs=1e-6)
    # a constant added to all logits says nothing
    shifted = distillation(student + 3, teacher, temperature)
    torch.testing.assert_close(shifted, distillation(student, teacher, temperature), rtol=1e-4, atol=1e-6)


@given(st.integers(0, 999))
def test_high_temperature_keeps_the_size_of_gradients(seed: int) -> None:
    """Hinton et al.: in the limit the gradient is that of half the squared distance of centred logits over the classes."""
    student, teacher = torch.randn(2, 1, 3, generator=torch.Generator().manual_seed(seed))
    student.requires_grad_()
    distillation(student, teacher, temperature=1000).backward()
    difference = student.detach() - teacher
    expected = (difference - difference.mean()) / 3
    torch.testing.assert_close(student.grad, expected, rtol=2e-2, atol=2e-3)


def test_alpha_one_is_ordinary_training() -> None:
    full, sub = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 1, 0])
    expected = cross_entropy(full, labels) + cross_entropy(sub, labels)
    torch.testing.assert_close(loss_of(full, [sub], labels, 1.0, 4.0), expected)
