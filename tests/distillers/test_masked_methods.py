"""What MGD does beyond its golden vector."""

from __future__ import annotations

import pytest
import torch
from method_fixtures import make_batch

from kdbench.distillers.mgd import Generation


def test_masked_channels_do_not_matter() -> None:
    torch.manual_seed(0)
    module, noise = Generation(6, 6), torch.rand(4, 6)
    student = torch.randn(4, 6, 5, 5)
    ratio = 0.5
    other = torch.where((noise < ratio)[:, :, None, None], student + 7, student)
    assert torch.equal(module(student, noise, ratio), module(other, noise, ratio))
    assert not torch.equal(module(student, noise, 0.0), module(other, noise, 0.0))


def test_the_mask_belongs_to_the_sample() -> None:
    batch = make_batch(8)
    whole = batch.generator("mgd/channels").uniform(6)
    batch.draw = batch.draw[3:5]
    assert torch.equal(batch.generator("mgd/channels").uniform(6), whole[3:5])


@pytest.mark.parametrize("width", [32, 64])
def test_widths_that_agree_need_no_projection(width: int) -> None:
    module = Generation(32, width)
    assert isinstance(module.align, torch.nn.Identity) == (width == 32)
