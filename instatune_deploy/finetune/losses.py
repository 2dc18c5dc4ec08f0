"""The loss of InstaTune: Eq. 1 of arXiv 2308.15609.

``L = a {CE(S) + sum CE(S_i)} + (1 - a) {g KL(S, T) + sum [(1 - g) KL(S_i, S) + g KL(S_i, T)]}``

of the full network S, the sub-networks S_i of a step and a teacher T. With g = 0, the low-cost mode, the full network alone
teaches; with g = 1, the high-cost mode, the teacher alone does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch.nn import functional


class Outcome(NamedTuple):
    """What a network made of a batch."""

    task_loss: torch.Tensor
    """CE of Eq. 1, or whatever else the task has for it: a scalar, the mean over the rows."""
    logits: torch.Tensor
    """(rows, classes)."""


def distillation(student: torch.Tensor, teacher: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """``KL(student, teacher)`` of Eq. 1: Kullback-Leibler divergence of the student's classes from the teacher's.

    student, teacher: logits, (rows, classes); no gradient reaches the teacher. Scaled by the square of the temperature,
    so that its gradients keep their size (Hinton et al., arXiv 1503.02531). Mean over the rows, in float32.
    """
    target = functional.log_softmax(teacher.detach().float() / temperature, dim=-1)
    predicted = functional.log_softmax(student.float() / temperature, dim=-1)
    return functional.kl_div(predicted, target, log_target=True, reduction="batchmean") * temperature**2


def full_loss(full: Outcome, teacher: torch.Tensor | None, alpha: float, gamma: float, temperature: float) -> torch.Tensor:
    """The full network's part of Eq. 1: ``a CE(S) + (1 - a) g KL(S, T)``."""
    loss = alpha * full.task_loss
    if teacher is not None and gamma:
        loss = loss + (1 - alpha) * gamma * distillation(full.logits, teacher, temperature)
    return loss


def sub_loss(
    sub: Outcome, full: torch.Tensor, teacher: torch.Tensor | None, alpha: float, gamma: float, temperature: float
) -> torch.Tensor:
    """A sub-network's part of Eq. 1: ``a CE(S_i) + (1 - a) [(1 - g) KL(S_i, S) + g KL(S_i, T)]``; without teacher g = 0."""
    gamma = 0.0 if teacher is None else gamma
    loss = alpha * sub.task_loss
    for weight, source in ((1 - gamma, full), (gamma, teacher)):
        if source is not None and weight:
            loss = loss + (1 - alpha) * weight * distillation(sub.logits, source, temperature)
    return loss


def instatune_loss(
    full: Outcome, subs: Sequence[Outcome], teacher: torch.Tensor | None, alpha: float, gamma: float, temperature: float
) -> torch.Tensor:
    """Eq. 1, a scalar.

    teacher: its logits, (rows, classes), or None: then gamma counts as 0.

    The sums over sub-networks are means here: with the paper's M = 1 that is the same, and with more of them the full
    network keeps its share of the step.
    """
    loss = full_loss(full, teacher, alpha, gamma, temperature)
    if not subs:
        return loss
    return loss + torch.stack([sub_loss(sub, full.logits, teacher, alpha, gamma, temperature) for sub in subs]).mean()
