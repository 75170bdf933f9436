"""Accuracy of a network: summed on the device, the numbers of counting one by one."""

from __future__ import annotations

import types

import pytest
import torch
import torch.nn.functional as F
from fake_cuda import CUDA, fake, fake_cuda
from small_loaders import memory

from kdbench.engine.evaluation import batch_sums, score
from kdbench.engine.runtime import Runtime


class Linear(torch.nn.Module):
    """A network of five classes, or of one more."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(3 * 32 * 32, classes))
        self.spec = types.SimpleNamespace(num_classes=classes)

    def forward(self, images):
        return types.SimpleNamespace(logits=images.flatten(1) @ self.weight)


@pytest.mark.parametrize("classes", [5, 9])
def test_sums_equal_counting_one_by_one(classes):
    split, model, seen = memory(70), Linear(classes).train(), []
    got = score(
        model, split, batch_size=16, runtime=Runtime(torch.device("cpu")), observe=lambda x, y: seen.append((x, y))
    )
    logits = (split.images.float() / 255).flatten(1) @ model.weight.detach()
    ranks = [(row > row[label]).sum().item() for row, label in zip(logits, split.labels)]
    assert got.images == 70
    assert got.top1 == round(100 * sum(rank == 0 for rank in ranks) / 70, 4)
    assert got.top5 == round(100 * sum(rank < 5 for rank in ranks) / 70, 4)
    assert got.loss == pytest.approx(F.cross_entropy(logits, split.labels).item(), rel=1e-5)
    assert model.training
    assert torch.equal(torch.cat([labels for _, labels in seen]), split.labels)


def test_no_batch_is_read_by_the_host():
    with fake_cuda():
        sums = batch_sums(fake(8, 10), fake(8, dtype=torch.int64), 5)
        assert (sums.device, sums.dtype, sums.shape) == (CUDA, torch.float64, (3,))
