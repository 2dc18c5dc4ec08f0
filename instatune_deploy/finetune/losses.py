"""The loss of InstaTune (Eq. 1 of arXiv 2308.15609) in its low-cost mode: the full network teaches its sub-networks."""

from __future__ import annotations

import torch
from torch.nn import functional


def distillation(student: torch.Tensor, teacher: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """``KL(student, teacher)`` of Eq. 1: Kullback-Leibler divergence of the student's classes from the teacher's.

    student, teacher: logits, (batch, classes); no gradient reaches the teacher. Scaled by the square of the temperature,
    so that its gradients keep their size (Hinton et al., arXiv 1503.02531). Mean over the batch, in float32.
    """
    target = functional.log_softmax(teacher.detach().float() / temperature, dim=-1)
    predicted = functional.log_softmax(student.float() / temperature, dim=-1)
    return functional.kl_div(predicted, target, log_target=True, reduction="batchmean") * temperature**2


def instatune_loss(
    full: torch.Tensor, subs: list[torch.Tensor], labels: torch.Tensor, alpha: float, temperature: float
) -> torch.Tensor:
    """Eq. 1 with gamma = 0: ``alpha (CE(S) + sum CE(S_i)) + (1 - alpha) sum KL(S_i, S)``.

    full: logits of the full network S, (batch, classes); subs: those of the M sub-networks S_i of this step.

    The sums over sub-networks are means here: with the paper's M = 1 that is the same, and with more of them the full
    network keeps its share of the step.
    """
    cross_entropy = functional.cross_entropy(full.float(), labels)
    if not subs:
        return alpha * cross_entropy
    each = [
        alpha * functional.cross_entropy(sub.float(), labels) + (1 - alpha) * distillation(sub, full, temperature) for sub in subs
    ]
    return alpha * cross_entropy + torch.stack(each).mean()
