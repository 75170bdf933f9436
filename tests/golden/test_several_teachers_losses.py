"""Losses on several teachers against values and gradients of their original implementation, and what the weights do beyond them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from golden_tools import GoldenCase, cases

from kdbench.distillers.aver import aver_loss
from kdbench.distillers.ca_mkd import ca_mkd_feature_loss, ca_mkd_loss, confidence
from kdbench.distillers.kd import kd_loss

DIRECT = {"aver__*": aver_loss, "ca_mkd__*": ca_mkd_loss, "ca_mkd_feature__*": ca_mkd_feature_loss}
CASES = [(fn, path) for pattern, fn in DIRECT.items() for path in cases(pattern)]


def logits(count: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [3 * torch.randn(5, 4, generator=generator, dtype=torch.float64) for _ in range(count)]


@pytest.mark.parametrize(("fn", "path"), CASES, ids=lambda value: getattr(value, "stem", ""))
def test_loss_equals_its_original(fn: Any, path: Path) -> None:
    GoldenCase(path).check(fn)


def test_each_case_is_there():
    assert len(CASES) == 6


def test_weights_add_up_to_one_and_favour_the_teacher_that_is_right():
    target = torch.tensor([0, 1, 2, 3, 0])
    right, *others = 9.0 * torch.nn.functional.one_hot(target, 4).double(), *logits(2)
    weights = confidence([right, *others], target)
    torch.testing.assert_close(weights.sum(dim=0), torch.ones(5, dtype=torch.float64))
    assert bool((weights[0] >= weights[1:]).all())
    soft = torch.nn.functional.one_hot(target, 4).double()
    torch.testing.assert_close(confidence([right, *others], soft), weights)


def test_equal_teachers_and_a_single_one_are_kd():
    student, teacher = logits(2)
    target = torch.zeros(5, dtype=torch.int64)
    wanted = kd_loss(student, teacher)
    for mean in ("logits", "losses"):
        torch.testing.assert_close(aver_loss(student, [teacher] * 3, mean=mean), wanted)
    torch.testing.assert_close(ca_mkd_loss(student, [teacher], target), wanted)
    torch.testing.assert_close(ca_mkd_loss(student, [teacher] * 3, target), wanted / 3)


def test_the_mean_of_losses_pulls_as_the_mean_of_probabilities_does():
    student, *teachers = logits(4)
    student.requires_grad_(True)
    mean = torch.stack([torch.softmax(z / 4, dim=1) for z in teachers]).mean(dim=0).log() * 4
    gradients = [
        torch.autograd.grad(loss, student)[0]
        for loss in (aver_loss(student, teachers, mean="losses"), kd_loss(student, mean))
    ]
    torch.testing.assert_close(*gradients)


def test_a_teacher_that_is_certain_and_wrong_leaves_the_loss_finite():
    student, teacher = logits(2)
    wrong = torch.full((5, 4), -1e4, dtype=torch.float64).index_fill(1, torch.tensor([1]), 1e4)
    loss = ca_mkd_loss(student, [teacher, wrong], torch.zeros(5, dtype=torch.int64))
    assert bool(torch.isfinite(loss))
