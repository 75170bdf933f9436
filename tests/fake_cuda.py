"""A GPU that is not there: tensors without numbers that say they lie on ``cuda``.

Where two devices are mixed, or the host reads a number of such a tensor, PyTorch raises an error. Tensors of the host are real.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch._subclasses import FakeTensorMode

from kdbench.data.augmentation import erase, forms
from kdbench.data.augmentation.policies import policy

CUDA = torch.device("cuda", 0)


def supported() -> bool:
    """Whether this PyTorch can do so without a driver; 2.4 cannot."""
    try:
        with FakeTensorMode():
            return torch.empty(1, device="cuda")[:, None].to("cpu") is not None
    except (RuntimeError, AssertionError):
        return False


@contextmanager
def fake_cuda() -> Iterator[None]:
    """Within it, tensors that are made on :data:`CUDA` hold nothing; what is kept for a device is forgotten before and after."""
    # PyTorch counts devices at a process's first backward pass. Had it one that is not there, it would start a thread for it, and
    # from then on refuse the backward pass of processes that other tests fork.
    torch.zeros(1, requires_grad=True).sum().backward()
    if not supported():
        pytest.skip("this PyTorch makes no tensors of a GPU without a driver")
    kept = (forms.constant, erase._noise, policy.make_policy)
    with pytest.MonkeyPatch.context() as patch:
        # Pinned memory takes a driver; a copy from it and from other memory differ in time alone.
        patch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
        for cached in kept:
            cached.cache_clear()
        try:
            with FakeTensorMode(allow_non_fake_inputs=True):
                yield
        finally:
            for cached in kept:
                cached.cache_clear()


def fake(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """A tensor on the GPU that is not there; called within :func:`fake_cuda`."""
    return torch.empty(shape, dtype=dtype, device=CUDA)
