"""Average pooling by products equals PyTorch's, in value and gradient."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from kdbench.models.backbone.pooling import adaptive_average, averages_by_products


@pytest.mark.parametrize("height", [1, 3, 7])
@pytest.mark.parametrize("width", [1, 4, 9])
def test_products_equal_adaptive_pooling(height, width):
    x = torch.randn(2, 3, 7, 5, dtype=torch.float64, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    ours, theirs = averages_by_products(x, height, width), F.adaptive_avg_pool2d(y, (height, width))
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    ours.square().sum().backward()
    theirs.square().sum().backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-12, atol=1e-12)


def test_on_a_cpu_it_is_pytorchs_own():
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(adaptive_average(x, 4), F.adaptive_avg_pool2d(x, 4))
    assert torch.equal(adaptive_average(x, (3, 2)), F.adaptive_avg_pool2d(x, (3, 2)))
