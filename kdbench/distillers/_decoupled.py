"""DKD's loss of each row, which the methods built on top of DKD weight in their own ways."""

from __future__ import annotations

import torch
from torch import Tensor

from kdbench.distillers._math import kl_rows


def binary_log_prob(logits: Tensor, chosen: Tensor) -> Tensor:
    """``[log p_y, log (1 - p_y)]`` of each row, without the cancellation in ``1 - p_y``.

    Args:
        logits: (..., K), after the temperature.
        chosen: (..., K) bool, one True a row: class y.

    Returns:
        (..., 2).
    """
    own = logits.masked_select(chosen).view(logits.shape[:-1])
    rest = logits.masked_fill(chosen, -torch.inf).logsumexp(-1)
    both = torch.stack((own, rest), dim=-1)
    return both.log_softmax(-1)


def masked_log_prob(logits: Tensor, dropped: Tensor) -> Tensor:
    """Log-probabilities over the classes that are left; the dropped ones hold a large negative number and a row without
    any class left is uniform, so that its divergence is 0. ``logits`` (..., K), ``dropped`` (..., K) bool."""
    return logits.masked_fill(dropped, -1e9).log_softmax(-1)


def dkd_rows(
    student_logits: Tensor, teacher_logits: Tensor, target: Tensor, *, alpha: float, beta: float, temperature: float
) -> Tensor:
    """``T^2 (alpha KL(b_t || b_s) + beta KL(q_t || q_s))`` of each row: (..., K), (..., K), (...) -> (...)."""
    chosen = torch.zeros_like(student_logits, dtype=torch.bool).scatter_(-1, target.unsqueeze(-1), True)
    student, teacher = student_logits / temperature, teacher_logits / temperature
    target_part = kl_rows(binary_log_prob(teacher, chosen), binary_log_prob(student, chosen))
    other_part = kl_rows(masked_log_prob(teacher, chosen), masked_log_prob(student, chosen))
    return temperature**2 * (alpha * target_part + beta * other_part)
