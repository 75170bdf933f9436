"""Number formats of a network's arithmetic: float32, TF32, bfloat16, float16."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch

#: What ``SOLVER.PRECISION`` and ``TEACHER.PRECISION`` may be, in words.
PRECISIONS = {
    "fp32": "float32",
    "tf32": "float32 with TF32 products",
    "bf16": "bfloat16 autocast",
    "fp16": "float16 autocast",
}
_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@contextlib.contextmanager
def precision(name: str, device: torch.device) -> Iterator[None]:
    """Compute a forward pass inside with this number format; see :func:`products` and :func:`autocast`."""
    with products(name, device), autocast(name, device):
        yield


def products(name: str, device: torch.device) -> AbstractContextManager[None]:
    """Convolutions and matrix products of float32 tensors inside, backward passes too, as this number format has them.

    ``fp32`` is float32 throughout: PyTorch's own default has a GPU's convolutions round their inputs to TF32 (10 bits of
    mantissa). Only ``tf32`` does that here, for convolutions and matrix products.

    Args:
        name: a key of :data:`PRECISIONS`.
        device: where is computed; a CPU has no TF32.
    """
    return _tf32(name == "tf32") if device.type == "cuda" else contextlib.nullcontext()


def autocast(name: str, device: torch.device) -> AbstractContextManager[Any]:
    """PyTorch's autocast for ``bf16`` and ``fp16``; what that leaves in float32 is float32. For forward passes alone."""
    if name not in _AUTOCAST:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=_AUTOCAST[name])


@contextlib.contextmanager
def _tf32(on: bool) -> Iterator[None]:
    """PyTorch's two switches, by the names that they have in every version: after the new ones, other code cannot read the old."""
    places: tuple[Any, Any] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    old = [place.allow_tf32 for place in places]
    for place in places:
        place.allow_tf32 = on
    try:
        yield
    finally:
        for place, value in zip(places, old):
            place.allow_tf32 = value
