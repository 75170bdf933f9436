"""MLDR-KD beyond its golden vectors: memory, the definition in loops, its gradient, its parts and its recipe."""

from __future__ import annotations

import math

import pytest
import torch
from method_fixtures import build, make_batch, make_spec, random_output
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import kdbench
from kdbench.distillers.mldr_kd import dfra_loss
from kdbench.distillers.parts import outer_products
from kdbench.distillers.parts.outer_products import outer_kl
from kdbench.errors import IncompatibleError


class Largest(TorchDispatchMode):
    """The size of the largest result of an operation."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        found = [value.numel() for value in tree_leaves(result) if isinstance(value, torch.Tensor)]
        self.numel = max(self.numel, *found, 0)
        return result


def test_imagenets_classes_fit_into_memory() -> None:
    """No tensor of B x K x K numbers (128 million of them): the largest has 2^23, 32 MiB of float32, and few live at a time."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(), Largest() as seen:
        student, teacher = torch.randn(128, 1000, requires_grad=True), torch.randn(128, 1000)
        dfra_loss(student, teacher).backward()
    assert 2**22 < seen.numel <= 2**23


def test_matrices_as_they_are_defined(monkeypatch) -> None:
    monkeypatch.setattr(outer_products, "_CHUNK", 40)  # several parts, of which the last is smaller
    torch.manual_seed(0)
    student, teacher = torch.randn(3, 7, dtype=torch.float64, requires_grad=True), torch.randn(3, 7).double()
    loss, terms = dfra_loss(student, teacher, alpha=0.5, temperature=2.0, return_terms=True)
    s, t = student / 2, teacher / 2
    expected = {}
    for name, a, b in (("class_relation", s, t), ("sample_relation", s.mT, t.mT)):
        rows = []
        for own, told in zip(a, b):
            q = (own[:, None] * own / math.sqrt(7)).log_softmax(0)
            p = (told[:, None] * told / math.sqrt(7)).log_softmax(0)
            rows.append((p.exp() * (p - q)).sum() / len(own))
        expected[name] = torch.stack(rows).mean()
        torch.testing.assert_close(terms[name], expected[name])
    (ours,) = torch.autograd.grad(terms["class_relation"] + terms["sample_relation"], student, retain_graph=True)
    (theirs,) = torch.autograd.grad(expected["class_relation"] + expected["sample_relation"], student)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(loss, sum(expected.values()) + 0.5 * terms["probability"])


def test_gradient_of_the_relation() -> None:
    torch.manual_seed(1)
    student, teacher = torch.randn(3, 4, dtype=torch.float64, requires_grad=True), torch.randn(3, 4).double()
    assert torch.autograd.gradcheck(lambda x: outer_kl(x, teacher, 0.7), (student,))
    assert float(outer_kl(teacher, teacher, 0.7)) == 0.0


@pytest.mark.parametrize("gap", [1e2, 1e4])
def test_finite_at_extreme_logits(gap) -> None:
    torch.manual_seed(1)
    student = (torch.randn(6, 12).sign() * gap).requires_grad_(True)
    loss = dfra_loss(student, -student.detach() * torch.rand(6, 12))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(student.grad).all()


def test_terms_are_the_loss_at_every_level() -> None:
    student, teacher = make_spec("cnn3"), make_spec("vit4", width=32)
    method = build("MLDR_KD", student, teacher, LOSS__STAGE_WEIGHT=2.0, ALPHA=0.5).double().train()
    outputs = random_output(student, 8, seed=1), random_output(teacher, 8, seed=2)
    heads: list[torch.Tensor] = []
    for head in method.heads:
        head.register_forward_hook(lambda module, given, result: heads.append(result))
    terms = method.losses(*outputs, make_batch())
    assert len(heads) == 3
    levels = [dfra_loss(z, outputs[1].logits, alpha=0.5) for z in heads]
    torch.testing.assert_close(terms["stages"], 2.0 * torch.stack(levels).sum())
    torch.testing.assert_close(terms["kd"], dfra_loss(outputs[0].logits, outputs[1].logits, alpha=0.5))


def test_sizes_of_the_release() -> None:
    """ResNet18 under a teacher 768 wide: OFA's branches and heads without the last bias, and the gate of 4 K."""
    cfg = kdbench.load_config("configs/cifar100/mldr_kd.yaml")
    with torch.device("meta"):
        specs = [kdbench.create_model(name, num_classes=100, data_size=224).spec for name in ("ResNet18", "Swin-T")]
    gate = 768 * 400 + 400 + 400 * 100 + 100
    assert kdbench.create_distiller("MLDR_KD", *specs, cfg).extra_parameters() == 1_626_256 - 768 + gate
    assert (cfg.SOLVER.BATCH_SIZE, cfg.SOLVER.DECAY_ALL, cfg.DISTILLER.TYPE) == (128, True, "MLDR_KD")


def test_a_width_that_a_token_branch_cannot_have() -> None:
    with pytest.raises(IncompatibleError, match="as wide as the student, 16"):
        build("MLDR_KD", make_spec("vit4"), make_spec("cnn4"), WIDTH=24)
