"""What NKD, SD-NKD, WSLD, USKD and SRD do beyond their golden vectors."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from method_fixtures import CLASSES, build, make_batch, make_spec, random_output
from torch import Tensor

from kdbench.distillers.nkd import nkd_loss
from kdbench.distillers.sdd_nkd import sdd_nkd_loss
from kdbench.distillers.srd import srd_loss
from kdbench.distillers.uskd import uskd_loss
from kdbench.distillers.wsld import wsld_loss
from kdbench.errors import IncompatibleError


def draw(*shape: int, seed: int = 0, grad: bool = False) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=g, dtype=torch.float64).requires_grad_(grad)


TARGET = torch.tensor([0, 3, 2, 3])


def test_nkd_parts_reach_the_logits_that_they_are_about() -> None:
    student, teacher = draw(4, 6, grad=True), draw(4, 6, seed=1)
    _, terms = nkd_loss(student, teacher, TARGET, temperature=2.0, return_terms=True)
    (gradient,) = torch.autograd.grad(terms["non_target"], student, retain_graph=True)
    assert not gradient.gather(1, TARGET[:, None]).any()
    assert gradient.any()
    others = torch.ones(4, 6, dtype=torch.bool).scatter(1, TARGET[:, None], False)
    logits = [z[others].view(4, 5) / 2.0 for z in (teacher, student)]
    expected = 4.0 * F.cross_entropy(logits[1], logits[0].softmax(1))
    torch.testing.assert_close(terms["non_target"], expected)


def test_nkd_normalises_the_other_classes_whatever_the_target_is_worth() -> None:
    student, teacher = draw(4, 6), draw(4, 6, seed=1)
    raised = teacher.scatter_add(1, TARGET[:, None], torch.full((4, 1), 40.0, dtype=torch.float64))
    before, after = (nkd_loss(student, t, TARGET, return_terms=True)[1] for t in (teacher, raised))
    torch.testing.assert_close(after["non_target"], before["non_target"])
    torch.testing.assert_close(after["target"], F.cross_entropy(student, TARGET))


def test_nkd_with_two_classes_has_its_target_alone() -> None:
    student = draw(4, 2, grad=True)
    _, terms = nkd_loss(student, draw(4, 2, seed=1), TARGET % 2, return_terms=True)
    assert terms["non_target"].item() == 0
    terms["non_target"].backward()
    assert student.grad is not None
    assert not student.grad.any()


def test_sdd_nkd_of_one_region_is_nkd_where_the_label_is_left_out() -> None:
    student, teacher = draw(4, 6), draw(4, 6, seed=1)
    regions = student[..., None], teacher[..., None]
    expected = nkd_loss(student, teacher, TARGET, gamma=3.0, temperature=2.0)
    masked = sdd_nkd_loss(*regions, TARGET, gamma=3.0, temperature=2.0, mask_target=True)
    torch.testing.assert_close(masked, expected)
    released = sdd_nkd_loss(*regions, TARGET, gamma=3.0, temperature=2.0)
    soft = 12.0 * F.cross_entropy(student / 2, (teacher / 2).softmax(1))
    _, terms = nkd_loss(student, teacher, TARGET, return_terms=True)
    torch.testing.assert_close(released, terms["target"] + soft)


def test_wsld_weighs_by_who_knows_the_sample_better_and_not_through_the_gradient() -> None:
    student, teacher = draw(4, 6, grad=True), draw(4, 6, seed=1)
    loss, terms = wsld_loss(student, teacher, TARGET, temperature=2.0, return_terms=True)
    rows = F.cross_entropy(student / 2, (teacher / 2).softmax(1), reduction="none")
    torch.testing.assert_close(loss, 4.0 * (terms["weight"] * rows).mean())
    assert not terms["weight"].requires_grad
    sure = 50.0 * F.one_hot(TARGET, 6).double()
    _, known = wsld_loss(sure, teacher, TARGET, return_terms=True)
    _, taught = wsld_loss(student, sure, TARGET, return_terms=True)
    assert known["weight"].max() < 1e-9
    assert taught["weight"].min() > 1 - 1e-9


def test_srd_gradient_does_not_vanish_as_the_features_meet() -> None:
    """The loss is the logarithm of a homogeneous function: differences times their gradients sum to the exponent."""
    teacher = draw(4, 6)
    for distance in (1.0, 1e-6):
        student = (teacher + distance * draw(4, 6, seed=1)).requires_grad_()
        srd_loss(student, teacher, exponent=3.0).backward()
        assert student.grad is not None
        total = ((student - teacher) * student.grad).sum()
        torch.testing.assert_close(total.detach(), torch.tensor(3.0, dtype=torch.float64), rtol=1e-6, atol=0)


def test_srd_of_equal_features_is_finite() -> None:
    student = draw(4, 6).float().requires_grad_()
    loss = srd_loss(student, student.detach().clone())
    loss.backward()
    assert loss.isfinite()
    assert student.grad is not None
    assert not student.grad.any()


def test_srd_normalises_over_the_batch_and_leaves_the_temperature_out_of_kd() -> None:
    spec, wide = make_spec("cnn4"), make_spec("vit4", width=48)
    method = build("SRD", spec, wide, TEMPERATURE=2.0).double()
    student, teacher = random_output(spec, 8, seed=1), random_output(wide, 8, seed=2)
    losses = method.losses(student, teacher, make_batch())

    def whitened(x: Tensor) -> Tensor:
        return (x - x.mean(0)) / (x.var(0, unbiased=False) + 1e-4).sqrt()

    own = whitened(student.penultimate @ method.projector.weight.T)
    expected = (own - whitened(teacher.penultimate)).pow(4).sum().log()
    torch.testing.assert_close(losses["srd"], 2.0 * expected)
    logits = [(z / 2).log_softmax(1) for z in (student.logits, teacher.logits)]
    torch.testing.assert_close(losses["kd"], F.kl_div(*logits, reduction="batchmean", log_target=True))
    assert method.extra_parameters() == 32 * 48


@pytest.mark.parametrize("rank", ["release", "paper"])
def test_uskd_takes_a_one_hot_label_as_a_hard_one(rank: str) -> None:
    student, weak = draw(4, 6), draw(4, 6, seed=1)
    hard, soft = (
        uskd_loss(student, weak, target, rank=rank, return_terms=True) for target in (TARGET, F.one_hot(TARGET, 6))
    )
    torch.testing.assert_close(hard, soft)


def test_uskd_orders_the_other_classes_by_zipf() -> None:
    """Where both logits agree on an order, so do both scores; the target takes its place in it and is then left out."""
    logits = torch.tensor([[2.0, 0.5, 1.0, 0.0, 1.5]], dtype=torch.float64, requires_grad=True)
    _, terms = uskd_loss(logits, logits.detach(), torch.tensor([4]), rank="paper", return_terms=True)
    mass = torch.tensor([1.0, 1 / 4, 1 / 3, 1 / 5], dtype=torch.float64)
    expected = F.cross_entropy(logits[:, :4], (mass / mass.sum())[None])
    torch.testing.assert_close(terms["non_target"], expected)
    (gradient,) = torch.autograd.grad(terms["non_target"], logits)
    assert gradient[0, 4] == 0


def test_uskd_scores_by_log_probabilities_as_released_and_by_probabilities_as_written() -> None:
    logits, weak, target = draw(64, 8, seed=2), draw(64, 8, seed=3), torch.arange(64) % 8
    released, written = (uskd_loss(logits, weak, target, rank=rank) for rank in ("release", "paper"))
    assert not torch.equal(released, written)


def test_uskd_target_label_has_mean_1() -> None:
    student = draw(1, 6).expand(4, -1)
    _, terms = uskd_loss(student, student, torch.full((4,), 2), return_terms=True)
    torch.testing.assert_close(terms["target"], F.cross_entropy(student, torch.full((4,), 2)))


@pytest.mark.parametrize("target", [torch.tensor([0, 1, 1]), torch.tensor([[0.3, 0.7], [1.0, 0.0], [0.5, 0.5]])])
def test_uskd_with_two_classes_has_no_other_class(target: Tensor) -> None:
    student = (1e4 * draw(3, 2)).float().requires_grad_()
    loss, terms = uskd_loss(student, draw(3, 2, seed=1).float(), target, return_terms=True)
    loss.backward()
    assert terms["non_target"].item() == 0
    assert student.grad is not None
    assert student.grad.isfinite().all()


def test_uskd_reads_the_last_stage_but_one_and_needs_it() -> None:
    spec, batch = make_spec("cnn4"), make_batch()
    method, student = build("USKD", spec, spec).double(), random_output(make_spec("cnn4"), 8, seed=1)
    assert method.weak.weight.shape == (CLASSES, spec.stages[-2].channels)
    losses = method.losses(student, None, batch)
    weak = method.weak(student.stages[-2].mean((2, 3)))
    torch.testing.assert_close(losses["uskd"], uskd_loss(student.logits, weak, batch.target))
    single = dataclasses.replace(spec, stages=spec.stages[-1:])
    with pytest.raises(IncompatibleError, match="has one stage, and it classifies by the last but one"):
        build("USKD", single, spec)


DIRECT = {
    "NKD": ("nkd", lambda s, t, y: nkd_loss(s.logits, t.logits, y)),
    "SDD_NKD": ("nkd", lambda s, t, y: 0.15 * sdd_nkd_loss(s.region_logits, t.region_logits, y)),  # epoch 3 of 20
    "WSLD": ("wsld", lambda s, t, y: 2.25 * wsld_loss(s.logits, t.logits, y)),
}


@pytest.mark.parametrize("name", DIRECT)
def test_class_is_its_function(name: str) -> None:
    spec, batch = make_spec("cnn4"), make_batch()
    student, teacher = random_output(spec, 8, seed=1), random_output(spec, 8, seed=2)
    term, function = DIRECT[name]
    losses = build(name, spec, spec).losses(student, teacher, batch)
    torch.testing.assert_close(losses[term], function(student, teacher, batch.labels), rtol=1e-12, atol=0)
    torch.testing.assert_close(losses["ce"], F.cross_entropy(student.logits, batch.target))


@pytest.mark.parametrize(
    ("name", "changes", "count", "told"),
    [
        ("NKD", {}, 1, "GAMMA"),
        ("SDD_NKD", {}, 0, ""),
        ("SDD_NKD", {"MASK_TARGET": True}, 1, "GAMMA"),
        ("USKD", {}, 1, "BETA"),
        ("USKD", {"BETA": 0.0}, 0, ""),
    ],
)
def test_what_is_constant_with_two_classes_is_told(
    name: str, changes: dict[str, object], count: int, told: str
) -> None:
    spec = dataclasses.replace(make_spec("cnn4"), num_classes=2)
    method = build(name, spec, spec, **changes)
    method.data = dataclasses.replace(method.data, num_classes=2)
    lines = list(method.vanishing(8))
    assert len(lines) == count
    assert all(told in line for line in lines)
