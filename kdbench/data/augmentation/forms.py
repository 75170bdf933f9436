"""Two forms of an operation: that of a CPU, which looks at what was drawn, and that of a device, which is never read.

A CPU is fastest where it works on the samples that an operation touches. On a GPU that would mean to wait for the numbers of
these samples, so there an operation works on the whole batch, by masks and gathers. Both give the same bits.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor


def by_host(images: Tensor) -> bool:
    """Whether ``images`` lie where the host may look at numbers without waiting for a device."""
    return images.device.type == "cpu"


@cache
def constant(values: Any, device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """A number, or (nested) tuples of numbers, on a device. It is copied there once: such a copy waits for the device. Never
    written to."""
    return torch.tensor(values, dtype=dtype).to(device)


def to_unit(images: Tensor) -> Tensor:
    """Bytes, or float in 0..255 (written to), -> float in [0, 1], to the bit the same on every device."""
    images = images.float()
    # By a number a GPU multiplies with the rounded reciprocal, by a tensor it divides.
    return images.div_(255.0 if by_host(images) else constant(255.0, images.device))
