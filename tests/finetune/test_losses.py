from __future__ import annotations

from math import log

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from instatune_deploy.finetune.losses import distillation, instatune_loss

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


def test_loss_by_hand() -> None:
    labels = torch.tensor([0])
    # full network even: CE = ln 2; sub-network leaning to the right class: CE = ln(5/4), KL = ln(5/4)
    loss = instatune_loss(EVEN, [LEANING], labels, alpha=0.3, temperature=1)
    assert loss.item() == pytest.approx(0.3 * (log(2) + log(5 / 4)) + 0.7 * log(5 / 4), rel=1e-6)
    # a second sub-network, even itself: CE = ln 2, KL = 0; of the two the mean counts
    loss = instatune_loss(EVEN, [LEANING, EVEN], labels, alpha=0.3, temperature=1)
    subs = (0.3 * log(5 / 4) + 0.7 * log(5 / 4) + 0.3 * log(2)) / 2
    assert loss.item() == pytest.approx(0.3 * log(2) + subs, rel=1e-6)


def test_without_sub_networks_only_the_cross_entropy_is_left() -> None:
    assert instatune_loss(LEANING, [], torch.tensor([1]), 0.3, 1).item() == pytest.approx(0.3 * log(5), rel=1e-6)


def test_extremes_of_alpha() -> None:
    labels = torch.tensor([0])
    assert instatune_loss(EVEN, [LEANING], labels, 1, 1).item() == pytest.approx(log(2) + log(5 / 4), rel=1e-6)
    full, sub = EVEN.clone().requires_grad_(), LEANING.clone().requires_grad_()
    loss = instatune_loss(full, [sub], labels, 0, 1)
    assert loss.item() == pytest.approx(log(5 / 4), rel=1e-6)
    loss.backward()
    assert full.grad is not None
    assert not full.grad.any()  # labels do not count, and no gradient of the distillation reaches the teacher


def test_no_gradient_of_the_distillation_reaches_the_teacher() -> None:
    labels, full, sub = torch.tensor([0]), EVEN.clone().requires_grad_(), LEANING.clone().requires_grad_()
    instatune_loss(full, [sub], labels, 0.3, 1).backward()
    # 0.3 times softmax minus one-hot: 0.3 * (1/2 - 1, 1/2)
    torch.testing.assert_close(full.grad, torch.tensor([[-0.15, 0.15]]))
    # student: 0.3 * (4/5 - 1, 1/5) + 0.7 * (4/5 - 1/2, 1/5 - 1/2)
    torch.testing.assert_close(sub.grad, torch.tensor([[-0.06 + 0.21, 0.06 - 0.21]]))


def test_half_precision_is_computed_in_float32() -> None:
    loss = instatune_loss(EVEN.bfloat16(), [LEANING.bfloat16()], torch.tensor([0]), 0.3, 1)
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
    torch.testing.assert_close(instatune_loss(full, [sub], labels, 1.0, 4.0), expected)
