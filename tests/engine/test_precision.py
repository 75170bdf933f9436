"""Number formats: what is switched, and that it is put back."""

from __future__ import annotations

import pytest
import torch

from kdbench.engine.precision import PRECISIONS, autocast, precision, products

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")


def switches() -> tuple[bool, bool]:
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("name", list(PRECISIONS))
def test_float32_is_rounded_where_it_is_asked_for_alone(name):
    before, rounded = switches(), name == "tf32"
    with products(name, GPU):
        assert switches() == (rounded, rounded)
        with products("fp32" if rounded else "tf32", GPU):
            assert switches() == (not rounded, not rounded)
        assert switches() == (rounded, rounded)
    assert switches() == before
    with precision(name, CPU):
        assert switches() == before


def test_it_is_put_back_after_an_error():
    before = switches()
    with pytest.raises(ZeroDivisionError), products("tf32", GPU):
        1 / 0  # noqa: B018
    assert switches() == before


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("fp32", torch.float32), ("tf32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)],
)
def test_autocast(name, dtype):
    with autocast(name, CPU):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
    assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
