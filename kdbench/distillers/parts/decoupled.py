"""DKD's loss of each row, which the methods built on top of DKD weight in their own ways, and NKD's.

Masks are scattered or added, never filled in through a boolean mask, and probabilities come from a softmax, never from
the exponential of a masked log-probability: on a CPU those two cost ten times as much.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kdbench.distillers.parts.numerics import kl_rows

#: What a masked logit becomes, or is lowered by: far below any logit, and still finite.
MASKED = -1e9


def without(logits: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Leave one class of each row out.

    Args:
        logits: (..., K).
        index: (..., 1) int64, the class.

    Returns:
        The logits with that class masked and their log-probabilities, (..., K) each.
    """
    masked = logits.scatter(-1, index, MASKED)
    return masked, masked.log_softmax(-1)


def binary_log_prob(own: Tensor, others: tuple[Tensor, Tensor], index: Tensor) -> Tensor:
    """``[log p_y, log (1 - p_y)]`` of each row, without the cancellation in ``1 - p_y``.

    Args:
        own: (..., 1), the logit of class y.
        others: what :func:`without` gives for y.
        index: (..., 1) int64, y.

    Returns:
        (..., 2).
    """
    masked, log_prob = others
    # The logsumexp of the other classes is any logit minus its log-probability; the softmax is worked out already.
    other = (index + 1) % masked.shape[-1]
    rest = masked.gather(-1, other) - log_prob.gather(-1, other)
    return torch.cat((own, rest), dim=-1).log_softmax(-1)


def soft_kl_rows(teacher: tuple[Tensor, Tensor], student: tuple[Tensor, Tensor]) -> Tensor:
    """KL(teacher || student) of each row from pairs of (masked) logits and their log-probabilities: -> (...)."""
    return (teacher[0].softmax(-1) * (teacher[1] - student[1])).sum(-1)


def decoupled_rows(
    student_logits: Tensor, teacher_logits: Tensor, target: Tensor, *, temperature: float
) -> tuple[Tensor, Tensor]:
    """TCKD and NCKD of each row, T^2 included: (..., K), (..., K), (...) -> (...), (...)."""
    index = target.unsqueeze(-1)
    student, teacher = student_logits / temperature, teacher_logits / temperature
    student_others, teacher_others = without(student, index), without(teacher, index)
    target_part = kl_rows(
        binary_log_prob(teacher.gather(-1, index), teacher_others, index),
        binary_log_prob(student.gather(-1, index), student_others, index),
    )
    return temperature**2 * target_part, temperature**2 * soft_kl_rows(teacher_others, student_others)


def dkd_rows(
    student_logits: Tensor, teacher_logits: Tensor, target: Tensor, *, alpha: float, beta: float, temperature: float
) -> Tensor:
    """``alpha TCKD + beta NCKD`` of each row: (..., K), (..., K), (...) -> (...)."""
    tckd, nckd = decoupled_rows(student_logits, teacher_logits, target, temperature=temperature)
    return alpha * tckd + beta * nckd


def normalised_rows(
    student_logits: Tensor, teacher_logits: Tensor, target: Tensor, *, temperature: float, without_target: bool = True
) -> tuple[Tensor, Tensor]:
    """NKD's two cross entropies of each row: ``-p_t[y] log p_s[y]`` at temperature 1, and ``-T^2 sum_c q_t[c] log q_s[c]`` at T.

    Args:
        student_logits, teacher_logits: (..., K).
        target: (...) int64, y.
        temperature: T of the second.
        without_target: q is over the classes besides y; False: over all classes.

    Returns:
        (...) each.
    """
    index = target.unsqueeze(-1)
    own = (x.log_softmax(-1).gather(-1, index).squeeze(-1) for x in (teacher_logits, student_logits))
    target_part = -next(own).exp() * next(own)
    student, teacher = student_logits / temperature, teacher_logits / temperature
    if without_target:
        (teacher, _), (_, student_log_prob) = without(teacher, index), without(student, index)
    else:
        student_log_prob = student.log_softmax(-1)
    return target_part, -(temperature**2) * (teacher.softmax(-1) * student_log_prob).sum(-1)
