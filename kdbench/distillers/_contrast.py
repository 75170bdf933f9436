"""Noise contrastive estimation against a memory bank, with its gradient in closed form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_EPS = 1e-7
#: Up to this ratio of bank rows to contrasted rows, scoring the whole bank is cheaper than gathering the rows.
_DENSE_RATIO = 32


def contrast(
    anchor: Tensor,
    bank: Tensor,
    index: Tensor,
    temperature: float,
    z: Tensor,
    num_data: int,
    gather: Callable[[Tensor], Tensor],
) -> Tensor:
    """CRD's loss of one side: ``nce(exp(<anchor_b, bank[index_bk]> / T) / Z)``, column 0 of ``index`` the positive.

    The gradient is computed along with the loss, so that the bank may change before the backward pass and no score is
    kept; there is no second derivative.

    Args:
        anchor: (B, D).
        bank: (n, D), a constant.
        index: (B, m + 1) int64.
        temperature: T.
        z: 0-d, Z; a negative one is set from this batch, in place.
        num_data: n of the chance m / n.
        gather: stacks a tensor of all ranks along dimension 0.

    Returns:
        0-d tensor, the mean over the batch.
    """
    loss: Tensor = _Contrast.apply(anchor, bank.to(anchor), index, temperature, z, num_data, gather)  # type: ignore[no-untyped-call]
    return loss


class _Contrast(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        anchor: Tensor,
        bank: Tensor,
        index: Tensor,
        temperature: float,
        z: Tensor,
        num_data: int,
        gather: Callable[[Tensor], Tensor],
    ) -> Tensor:
        chance = (index.shape[1] - 1) / num_data
        dense = len(bank) <= _DENSE_RATIO * index.shape[1]
        rows = None if dense else bank[index]
        scaled = anchor / temperature
        scores = (scaled @ bank.T).gather(1, index) if rows is None else torch.bmm(rows, scaled.unsqueeze(2)).squeeze(2)
        x = scores.exp_()
        estimate = gather(x.mean().view(1)).mean() * num_data
        z.copy_(torch.where(z < 0, estimate, z))
        # With y = x / (Z c) and a = 1 + eps / c: log(x / (x + c + eps)) = -log(1 + a / y), log(c / (x + c + eps)) =
        # -log(y + a). Not log1p for the many negatives: it is slow, for digits that the sum does not have.
        a = 1.0 + _EPS / chance
        y = x.mul_(1.0 / (z.to(x) * chance))
        t = y + a
        positive = torch.log1p(a / y[:, 0])
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(_gradient(y, t, a, index, bank, rows) / (temperature * len(anchor)))
        return (positive.sum() + t[:, 1:].log().sum()) / len(anchor)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return outer * gradient, None, None, None, None, None, None


def _gradient(y: Tensor, t: Tensor, a: float, index: Tensor, bank: Tensor, rows: Tensor | None) -> Tensor:
    """(B, D): sum over the contrasted rows of d loss / d score times the row; ``y`` is overwritten."""
    slope = y.div_(t)
    slope[:, 0] = -a / t[:, 0]
    if rows is not None:
        return torch.bmm(slope.unsqueeze(1), rows).squeeze(1)
    return slope.new_zeros(len(slope), len(bank)).scatter_add_(1, index, slope) @ bank
