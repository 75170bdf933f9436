"""Divergence of the softmaxes of outer products, without the products."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kdbench.distillers.parts.numerics import kl_rows

#: numbers of a tensor that is made on the way
_CHUNK = 2**23


def outer_kl(student: Tensor, teacher: Tensor, scale: float) -> Tensor:
    """``1 / (R n) * sum_r sum_j KL(softmax(scale * t_rj * t_r) || softmax(scale * s_rj * s_r))``.

    The j-th softmax is the j-th column (or row) of the outer product of row r with itself. Columns are worked on some at a time,
    and the gradient, which has a closed form, is made on the way: R n^2 numbers never lie in memory.

    Args:
        student: (R, n).
        teacher: (R, n), no gradient.
        scale: of the products.

    Returns:
        0-d tensor; it can be differentiated once.
    """
    result: Tensor = _OuterKL.apply(student, teacher, scale)
    return result


class _OuterKL(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, scale: float) -> Tensor:
        rows, n = student.shape
        total, gradient = student.new_zeros(()), torch.zeros_like(student)
        step = max(1, _CHUNK // (rows * n))
        for first in range(0, n, step):
            part = slice(first, min(first + step, n))
            own = student[:, part]
            log_p = (scale * teacher[:, part, None] * teacher[:, None]).log_softmax(-1)
            log_q = (scale * own[..., None] * student[:, None]).log_softmax(-1)
            total += kl_rows(log_p, log_q).sum()
            # of a column's logits s_j s_i: with respect to s_i, and to s_j
            change = log_q.exp_() - log_p.exp_()
            gradient += (own[:, None] @ change)[:, 0]
            gradient[:, part] += (change @ student[..., None])[..., 0]
        ctx.save_for_backward(gradient * (scale / (rows * n)))
        return total / (rows * n)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        (gradient,) = ctx.saved_tensors
        return grad * gradient, None, None
