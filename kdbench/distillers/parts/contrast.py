"""Noise contrastive estimation against a memory bank, with its gradient in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_EPS = 1e-7
#: Up to this ratio of bank rows to contrasted rows, scoring the whole bank is cheaper than gathering the rows.
_DENSE_RATIO = 32
#: Rows of the bank that are scored at once: they and their scores stay in the cache for the gradient's product.
_CHUNK = 2048


def contrast(
    anchor: Tensor,
    bank: Tensor,
    index: Tensor,
    counts: Tensor | None,
    temperature: float,
    z: Tensor,
    z_is_set: bool,
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
        counts: :func:`occurrences` of ``index``.
        temperature: T.
        z: 0-d, Z.
        z_is_set: False sets Z from this batch, in place; the host says it, since to look at Z it would wait for the device.
        num_data: n of the chance m / n.
        gather: stacks a number, a tensor without dimensions, of all ranks.

    Returns:
        0-d tensor, the mean over the batch.
    """
    bank = bank.to(anchor)
    # in powers of two, which are cheaper than those of e
    scaled = anchor.detach() * (math.log2(math.e) / temperature)
    if not z_is_set:
        z.copy_(gather(_mean_score(scaled, bank, index, counts)).mean() * num_data)
    loss: Tensor = _Contrast.apply(anchor, scaled, bank, index, counts, temperature, z, num_data)  # type: ignore[no-untyped-call]
    return loss


def occurrences(index: Tensor, rows: int) -> Tensor | None:
    """(B, rows) float32, how often each row of the bank is among the negatives ``index[b, 1:]``; None where the bank is
    so large that its rows are better gathered."""
    if rows > _DENSE_RATIO * index.shape[1]:
        return None
    counts = torch.zeros(len(index), rows, device=index.device)
    return counts.scatter_add_(1, index[:, 1:], counts.new_ones(()).expand(len(index), index.shape[1] - 1))


def _mean_score(scaled: Tensor, bank: Tensor, index: Tensor, counts: Tensor | None) -> Tensor:
    if counts is None:
        return torch.bmm(bank[index], scaled.unsqueeze(2)).exp2_().mean()
    return (scaled @ bank.T).gather(1, index).exp2_().mean()


class _Contrast(torch.autograd.Function):
    # With y = x / c (x of Z as well) and a = 1 + eps / c: log(x / (x + c + eps)) = -log(1 + a / y) and
    # log(c / (x + c + eps)) = -log(y + a), whose derivatives by the score are a / (y + a) and -y / (y + a).
    @staticmethod
    def forward(
        ctx: Any,
        anchor: Tensor,
        scaled: Tensor,
        bank: Tensor,
        index: Tensor,
        counts: Tensor | None,
        temperature: float,
        z: Tensor,
        num_data: int,
    ) -> Tensor:
        chance = (index.shape[1] - 1) / num_data
        a, factor = 1.0 + _EPS / chance, 1.0 / (z.to(anchor) * chance)
        own = bank[index[:, 0]]
        y = (scaled * own).sum(1).exp2_().mul_(factor)
        loss = torch.log1p(a / y).sum()
        gradient = own.mul_((-a / (y + a)).unsqueeze(1))
        if counts is None:
            loss += _add_gathered(gradient, scaled, bank, index, a, factor)
        else:
            loss += _add_whole(gradient, scaled, bank, counts, a, factor)
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(gradient / (temperature * len(anchor)))
        return loss / len(anchor)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return outer * gradient, None, None, None, None, None, None, None


def _add_whole(gradient: Tensor, scaled: Tensor, bank: Tensor, counts: Tensor, a: float, factor: Tensor) -> Tensor:
    """Negatives' loss; their gradient is added to ``gradient`` (B, D). Every row of the bank is scored once and weighted
    by how often it was drawn: sequential reads, where the drawn rows themselves would be random ones."""
    loss = scaled.new_zeros(())
    for rows, drawn in zip(bank.split(_CHUNK), counts.split(_CHUNK, dim=1)):
        drawn = drawn.to(scaled)
        y = (scaled @ rows.T).exp2_().mul_(factor)
        t = y + a
        gradient.addmm_(y.div_(t).mul_(drawn), rows)
        loss += t.log_().mul_(drawn).sum()  # not log1p: it is slow, for digits that the sum does not have
    return loss


def _add_gathered(gradient: Tensor, scaled: Tensor, bank: Tensor, index: Tensor, a: float, factor: Tensor) -> Tensor:
    """The same from copies of the drawn rows, (B, m, D)."""
    rows = bank[index[:, 1:]]
    y = torch.bmm(rows, scaled.unsqueeze(2)).squeeze(2).exp2_().mul_(factor)
    t = y + a
    gradient += torch.bmm(y.div_(t).unsqueeze(1), rows).squeeze(1)
    return t.log_().sum()
