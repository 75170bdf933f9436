"""Arithmetic that several losses share. Everything here works on the last dimension, in log space."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

Fn = TypeVar("Fn", bound=Callable[..., Any])
_HALF = (torch.float16, torch.bfloat16)


def _promote(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.float() if value.dtype in _HALF else value
    if isinstance(value, (list, tuple)):
        return type(value)(_promote(v) for v in value)
    return value


def _device_type(values: Any) -> str | None:
    for value in values:
        if isinstance(value, Tensor):
            return value.device.type
        if isinstance(value, (list, tuple)):
            found = _device_type(value)
            if found:
                return found
    return None


def full_precision(fn: Fn) -> Fn:
    """Decorator of a loss function: half and bfloat16 arguments become float32 (float64 stays) and autocast is off inside,
    since constants like 1e-12 and logit gaps of 1e4 do not survive half precision."""

    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        device = _device_type(args) or _device_type(kwargs.values())
        args = tuple(_promote(a) for a in args)
        kwargs = {key: _promote(value) for key, value in kwargs.items()}
        if device is None or not torch.is_autocast_enabled(device):
            return fn(*args, **kwargs)
        with torch.autocast(device, enabled=False):
            return fn(*args, **kwargs)

    return wrapper  # type: ignore[return-value]


def kl_rows(teacher_log_prob: Tensor, student_log_prob: Tensor) -> Tensor:
    """KL(teacher || student) of each row, from log-probabilities: (..., K) and (..., K) -> (...)."""
    return F.kl_div(student_log_prob, teacher_log_prob, reduction="none", log_target=True).sum(-1)


def tempered_kl(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """``T^2 * KL(softmax(z_t / T) || softmax(z_s / T))`` of each row: (..., K) -> (...)."""
    return temperature**2 * kl_rows(
        F.log_softmax(teacher_logits / temperature, dim=-1), F.log_softmax(student_logits / temperature, dim=-1)
    )


@full_precision
def standardize(logits: Tensor, eps: float = 1e-7) -> Tensor:
    """``(z - mean z) / (eps + std z)`` of each row, with the sample standard deviation (divisor K - 1).

    The gradient flows through mean and deviation; a row of equal logits gives zeros and a zero gradient.

    Args:
        logits: (..., K).
        eps: added to the deviation.
    """
    centred = logits - logits.mean(-1, keepdim=True)
    # The norm and not std(), which is much slower; its gradient at a row of equal logits is 0 as well.
    deviation = torch.linalg.vector_norm(centred, dim=-1, keepdim=True) / math.sqrt(logits.shape[-1] - 1)
    return centred / (eps + deviation)


#: why standardised logits are no input where there are two classes
STANDARDIZED_PAIR = "standardised logits of two classes are +-0.71 whatever a network says"


def with_terms(loss: Tensor, terms: dict[str, Tensor], return_terms: bool) -> Any:
    """``loss``, or ``(loss, terms)``; the common tail of every loss function."""
    return (loss, terms) if return_terms else loss
