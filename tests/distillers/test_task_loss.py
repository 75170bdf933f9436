"""``SOLVER.TASK_LOSS: bce``: timm's binary cross entropy, in the task's term of every method and in no other."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from fake_cuda import CUDA, fake, fake_cuda
from timm.data.mixup import mixup_target
from timm.loss import BinaryCrossEntropy

from kdbench.bench.methods.conformance import NETWORKS, create_pair, make_batch, step
from kdbench.distillers.base import Batch, distillers
from kdbench.distillers.parts.task_loss import task_loss
from kdbench.errors import IncompatibleError, LossError

CLASSES = 7
#: terms beside the task's that hold logits against the labels by the run's criterion: IPWD has a head of classes
FURTHER = {"IPWD": {"head"}}


def logits(dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return (3 * torch.randn(9, CLASSES, generator=torch.Generator().manual_seed(1), dtype=torch.float64)).to(dtype)


def targets(kind: str, smoothing: float) -> torch.Tensor:
    """Labels, or timm's mixed ones."""
    labels = torch.randint(0, CLASSES, (9,), generator=torch.Generator().manual_seed(2))
    return labels if kind == "labels" else mixup_target(labels, CLASSES, 0.3, smoothing).double()


@pytest.mark.parametrize("threshold", [None, 0.0, 0.2])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["labels", "mixed"])
def test_it_is_timms(kind, smoothing, threshold):
    target, values, own = targets(kind, smoothing), logits().requires_grad_(), logits().requires_grad_()
    wanted = BinaryCrossEntropy(smoothing=smoothing, target_threshold=threshold)(values, target)
    found = task_loss(own, target, kind="bce", smoothing=smoothing, threshold=-1.0 if threshold is None else threshold)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=0)
    wanted.backward()
    found.backward()
    torch.testing.assert_close(own.grad, values.grad, rtol=1e-12, atol=0)


@pytest.mark.parametrize("kind", ["ce", "bce"])
@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(kind, half):
    given = {"kind": kind, "smoothing": 0.1, "threshold": -1.0}
    found = task_loss(logits(half), targets("labels", 0.1), **given)
    assert found.dtype == torch.float32
    assert torch.equal(found, task_loss(logits(half).float(), targets("labels", 0.1), **given))


def test_a_gpu_is_not_waited_for():
    with fake_cuda():
        target = torch.zeros(9, dtype=torch.int64, device=CUDA)
        found = task_loss(fake(9, CLASSES), target, kind="bce", smoothing=0.1, threshold=0.2)
        assert found.device == CUDA


def test_a_loop_of_ones_own_names_it_rightly():
    images = torch.rand(2, 3, 8, 8)
    with pytest.raises(LossError, match=r"did you mean 'bce'.*expects ce or bce"):
        Batch(images, torch.tensor([0, 1]), task_loss="bec")


def pair_of(method: str):
    """The first pair for which a method is defined; the task has a weight in its loss."""
    for teacher in NETWORKS:
        for student in NETWORKS:
            try:
                made = create_pair(method, NETWORKS[teacher], NETWORKS[student])
            except IncompatibleError:
                continue
            if method == "SIMKD":  # the only one whose default is 0
                made[2].cfg.defrost()
                made[2].cfg.LOSS.CE_WEIGHT = 1.0
            return made
    raise AssertionError(f"{method} is defined for no pair")


@pytest.mark.parametrize("name", distillers.names())
def test_the_task_of_every_method_follows_it_and_nothing_else_does(name):
    found = []
    for kind in ("ce", "bce"):
        student, teacher, method = pair_of(name)
        found.append(step(method, student, teacher, replace(make_batch(student, 8), task_loss=kind)))
    usual, other = found
    changed = {term for term in usual if not torch.equal(usual[term], other[term])}
    assert changed == set(method.task_terms) | FURTHER.get(name, set())
