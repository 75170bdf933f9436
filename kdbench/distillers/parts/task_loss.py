"""The loss of the task: what logits are held against where no teacher is asked, as a run's configuration has it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

#: values of ``SOLVER.TASK_LOSS``
TASK_LOSSES = ("ce", "bce")
_HALF = (torch.float16, torch.bfloat16)


def task_loss(logits: Tensor, target: Tensor, *, kind: str, smoothing: float, threshold: float) -> Tensor:
    """Mean over the batch of the cross entropy, or mean over batch and classes of the binary cross entropy.

    Args:
        logits: (B, K); of half precision they become float32.
        target: (B,) int64 labels, or (B, K) soft labels, which binary cross entropy takes as they are.
        kind: one of :data:`TASK_LOSSES`.
        smoothing: of the labels, in [0, 1).
        threshold: binary cross entropy makes targets above it 1 and the others 0; negative = off.

    Returns:
        0-d tensor.
    """
    logits = logits.float() if logits.dtype in _HALF else logits
    if kind == "bce":
        return F.binary_cross_entropy_with_logits(logits, _binary(logits, target, smoothing, threshold))
    return F.cross_entropy(logits, target, label_smoothing=smoothing)


def _binary(logits: Tensor, target: Tensor, smoothing: float, threshold: float) -> Tensor:
    """(B, K) targets of each class by itself, as in timm@1.0 (``loss/binary_cross_entropy.py``)."""
    if target.dim() == 1:
        # compared and not scattered: a GPU then repeats it, and nothing waits for the labels
        own = target[:, None] == torch.arange(logits.shape[1], device=target.device)
        off = smoothing / logits.shape[1]
        target = torch.full_like(logits, off, requires_grad=False).masked_fill(own, 1.0 - smoothing + off)
    if threshold >= 0:
        target = target.gt(threshold)
    return target.to(logits.dtype)
