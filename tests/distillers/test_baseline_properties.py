"""One property of each loss that its golden vectors do not show."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from method_fixtures import SAMPLES, build, labels, make_batch, make_spec, random_output, rotation
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kdbench.distillers.at import at_loss
from kdbench.distillers.catkd import cat_kd_loss
from kdbench.distillers.cc import cc_loss
from kdbench.distillers.crd import crd_loss, update_memory
from kdbench.distillers.ctkd import ctkd_lambda, ctkd_loss
from kdbench.distillers.fitnet import fitnet_loss
from kdbench.distillers.ipwd import ipwd_loss
from kdbench.distillers.kd import kd_loss
from kdbench.distillers.lskd import lskd_dkd_loss, lskd_loss, standardize
from kdbench.distillers.ofd import ofd_loss, ofd_margin
from kdbench.distillers.parts.contrast import contrast, occurrences
from kdbench.distillers.reviewkd import review_kd_loss
from kdbench.distillers.rkd import rkd_loss
from kdbench.distillers.rld import rld_loss
from kdbench.distillers.rsd import rsd_loss
from kdbench.distillers.sdd import region_weight, sdd_kd_loss, sdd_pool
from kdbench.distillers.sdd_dkd import sdd_dkd_loss
from kdbench.distillers.tekap import tekap_loss
from kdbench.distillers.ttm import ttm_loss
from kdbench.distillers.uhkd import frequency_representation, uhkd_feature_loss
from kdbench.distillers.wttm import wttm_loss

RKD = {"distance_weight": 25.0, "angle_weight": 50.0, "squared": False, "eps": 1e-12}


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def same(a: Any, b: Any) -> None:
    torch.testing.assert_close(torch.as_tensor(a), torch.as_tensor(b), rtol=1e-9, atol=1e-11, check_dtype=False)


STUDENT, TEACHER, TARGET = draw(6, 10), draw(6, 10, seed=1), torch.arange(6)


def test_lskd_sees_neither_shift_nor_scale() -> None:
    shift, scale = draw(6, 1, seed=2), draw(6, 1, seed=3).exp()
    a = lskd_loss(STUDENT, TEACHER, temperature=2.0, eps=0.0)
    same(a, lskd_loss(scale * STUDENT + shift, TEACHER, temperature=2.0, eps=0.0))
    same(lskd_loss(3.0 * TEACHER + 1.0, TEACHER, temperature=2.0, eps=0.0), 0.0)
    options = {"alpha": 1.0, "beta": 8.0, "temperature": 2.0, "eps": 0.0}
    same(lskd_dkd_loss(STUDENT, scale * TEACHER, TARGET, **options), lskd_dkd_loss(STUDENT, TEACHER, TARGET, **options))


def test_lskd_of_equal_logits_has_a_finite_gradient() -> None:
    """A head that starts at zero gives equal logits."""
    student = torch.zeros(4, 10, requires_grad=True)
    lskd_loss(student, TEACHER[:4].float(), temperature=2.0).backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()


def test_rld_at_its_own_teacher_is_zero_where_the_teacher_is_right() -> None:
    options = {"alpha": 1.0, "beta": 8.0, "temperature": 4.0, "alpha_temperature": 4.0}
    right = TEACHER.argmax(1)
    same(rld_loss(TEACHER, TEACHER, right, **options), 0.0)
    assert rld_loss(TEACHER, TEACHER, (right + 1) % 10, **options) > 1e-3
    same(
        rld_loss(STUDENT, TEACHER, TARGET, standardize=True, **options),
        rld_loss(standardize(STUDENT), standardize(TEACHER), TARGET, **options),
    )


def test_wttm_at_gamma_one_is_ttm_and_plain_kd() -> None:
    kd = kd_loss(STUDENT, TEACHER, temperature=1.0)
    same(wttm_loss(STUDENT, TEACHER, gamma=1.0), kd)
    same(ttm_loss(STUDENT, TEACHER, gamma=1.0), kd)


def test_wttm_weights_ttm_by_smoothness() -> None:
    _, terms = wttm_loss(STUDENT, TEACHER, gamma=0.3, return_terms=True)
    rows = torch.stack([ttm_loss(STUDENT[i : i + 1], TEACHER[i : i + 1], gamma=0.3) for i in range(6)])
    same(wttm_loss(STUDENT, TEACHER, gamma=0.3), (terms["sample_weight"] * rows).mean())
    assert wttm_loss(STUDENT[:1], torch.zeros(1, 10), gamma=0.1, return_terms=True)[1]["sample_weight"] < 10**0.9 + 1e-3


def test_ctkd_is_kd_at_the_temperature_of_theta() -> None:
    theta = torch.zeros((), dtype=torch.float64, requires_grad=True)
    loss = ctkd_loss(STUDENT, TEACHER, theta, grl_lambda=-1.0, t_start=1.0, t_end=20.0)
    same(loss.detach(), kd_loss(STUDENT, TEACHER, temperature=11.0))
    loss.backward()
    plain = torch.zeros((), dtype=torch.float64, requires_grad=True)
    ctkd_loss(STUDENT, TEACHER, plain, grl_lambda=1.0, t_start=1.0, t_end=20.0).backward()
    same(theta.grad, -plain.grad)
    assert [ctkd_lambda(e, 10) for e in (0, 10, 99)] == [0.0, -1.0, -1.0]


def test_tekap_without_noise_is_kd_times_its_weights() -> None:
    loss = tekap_loss(STUDENT, TEACHER, draw(3, 6, 10), temperature=4.0, noise_weight=0.0)
    same(loss, 3.4 * kd_loss(STUDENT, TEACHER, temperature=4.0))


def test_tekap_noise_belongs_to_the_sample_and_not_to_the_batch() -> None:
    spec = replace(make_spec("cnn4"), provides=frozenset({"logits", "penultimate"}))
    method, batch = build("TEKAP", spec, spec), make_batch(8)
    outputs = [random_output(spec, 8, seed=seed) for seed in (1, 2)]
    first, again = (method.losses(*outputs, batch)["kd"] for _ in range(2))
    assert torch.equal(first, again)
    order = torch.randperm(8)
    batch.draw, batch.index, batch.target = batch.draw[order], batch.index[order], batch.target[order]
    same(method.losses(*(o.map(lambda t: t[order]) for o in outputs), batch)["kd"], first)
    batch.epoch += 1
    assert not torch.equal(method.losses(*outputs, batch)["kd"], first)


def test_sdd_with_one_region_is_its_plain_method() -> None:
    same(
        sdd_kd_loss(STUDENT[..., None], TEACHER[..., None], TARGET, temperature=4.0),
        kd_loss(STUDENT, TEACHER, temperature=4.0),
    )
    options = {"alpha": 1.0, "beta": 8.0, "temperature": 4.0}
    shifted = STUDENT[..., None] + draw(6, 1, 1, seed=5)
    same(
        sdd_dkd_loss(shifted, TEACHER[..., None], TARGET, **options),
        sdd_dkd_loss(STUDENT[..., None], TEACHER[..., None], TARGET, **options),
    )


def test_sdd_regions_weigh_double_where_the_teacher_contradicts_itself() -> None:
    teacher = F.one_hot(torch.tensor([[0, 0, 1]]), 3).transpose(1, 2).double()
    assert region_weight(teacher, torch.tensor([0])).tolist() == [[1.0, 1.0, 2.0]]
    assert region_weight(teacher, torch.tensor([1])).tolist() == [[1.0, 1.0, 2.0]]
    assert region_weight(teacher, torch.tensor([2])).tolist() == [[1.0, 1.0, 1.0]]


def test_sdd_pool_counts_its_regions_and_keeps_a_constant() -> None:
    assert sdd_pool(torch.ones(2, 3, 7, 5)).eq(1.0).all()
    assert sdd_pool(torch.ones(2, 3, 8, 8), scales=(1, 2)).shape == (2, 3, 5)
    with pytest.raises(ValueError, match="scales"):
        sdd_pool(torch.ones(2, 3, 8, 8), scales=(1, 8))


def test_cat_kd_normalised_sees_no_scale_of_a_class() -> None:
    a, b, scale = draw(2, 5, 8, 8), draw(2, 5, 8, 8, seed=1), draw(2, 5, 1, 1, seed=2).exp()
    same(
        cat_kd_loss(scale * a, b, resolution=4, normalize=True),
        cat_kd_loss(a, b, resolution=4, normalize=True),
    )


def test_at_sees_neither_the_order_of_channels_nor_a_scale() -> None:
    a, b = draw(3, 6, 4, 4), draw(3, 8, 4, 4, seed=1)
    loss = at_loss([a], [b], p=2)
    same(at_loss([a[:, torch.randperm(6)]], [b], p=2), loss)
    same(at_loss([-7.0 * a], [b], p=2), loss)
    assert at_loss([-a], [b], p=3) != at_loss([a], [b], p=3)


def test_rkd_sees_neither_rotation_nor_shift_nor_scale() -> None:
    student, teacher = draw(7, 12), draw(7, 5, seed=1)
    loss = rkd_loss(student, teacher, **RKD)
    same(rkd_loss(3.0 * student @ rotation(12) + draw(1, 12, seed=2), teacher, **RKD), loss)
    same(rkd_loss(student @ rotation(12), student, **RKD), 0.0)


def test_rkd_in_blocks_is_rkd_at_once() -> None:
    """More features than samples: the angles come in blocks, and no tensor outgrows B^3."""
    student, teacher = draw(6, 50).requires_grad_(), draw(6, 30, seed=1)
    with _LargestTensor() as seen:
        loss, terms = rkd_loss(student, teacher, **RKD, return_terms=True)
        loss.backward()
    assert seen.numel <= max(6**3, student.numel())
    edges = F.normalize(student.detach()[None] - student.detach()[:, None], dim=2)
    others = F.normalize(teacher[None] - teacher[:, None], dim=2)
    angles = [torch.einsum("ijd,ikd->ijk", e, e) for e in (edges, others)]
    same(terms["angle"].detach(), F.smooth_l1_loss(*angles))
    assert torch.autograd.gradcheck(lambda s: rkd_loss(s, teacher, **RKD), (student,))


def test_cc_depends_on_the_order_of_the_batch_and_vanishes_where_one_neighbour_agrees() -> None:
    a, b = draw(4, 5), draw(4, 5, seed=1)
    assert cc_loss(a, b) != cc_loss(a[[0, 2, 1, 3]], b[[0, 2, 1, 3]])
    b[[0, 2]] = a[[0, 2]]
    same(cc_loss(a, b), 0.0)
    with pytest.raises(ValueError, match="two samples"):
        cc_loss(a[:1], b[:1])


def test_rsd_vanishes_for_whitened_equal_features_and_sees_no_affine_map_of_a_column() -> None:
    white = torch.linalg.qr(draw(16, 4) - draw(16, 4).mean(0))[0]
    white = white - white.mean(0)
    white = torch.linalg.qr(white)[0]
    assert rsd_loss(white, white, kappa=0.01, eps=0.0) < 1e-20
    a, b = draw(16, 4, seed=1), draw(16, 4, seed=2)
    same(rsd_loss(3.0 * a + 1.0, b, kappa=0.01, eps=0.0), rsd_loss(a, b, kappa=0.01, eps=0.0))


@pytest.mark.parametrize(("share", "stable"), [(0.97, True), (1.03, False)])
def test_cc_is_stable_up_to_the_learning_rate_that_its_card_tells(share: float, stable: bool) -> None:
    spec = make_spec("cnn4")
    method = build("CC", spec, spec).double()
    student, teacher = (random_output(spec, 1, seed=seed) for seed in (1, 2))
    both = [replace(output, penultimate=output.penultimate.expand(8, -1)) for output in (student, teacher)]
    size = sum(float(output.penultimate.square().sum()) for output in (student, teacher)) + 2
    limit = (1 + 0.9) / (method.cfg.LOSS.FEAT_WEIGHT * size)
    optimizer = torch.optim.SGD(method.parameters(), lr=share * limit, momentum=0.9)
    embedded = method.embed_student(both[0].penultimate), method.embed_teacher(both[1].penultimate)
    before = float(cc_loss(*embedded).detach())
    for _ in range(200):
        loss = cc_loss(method.embed_student(both[0].penultimate), method.embed_teacher(both[1].penultimate))
        optimizer.zero_grad()
        (method.cfg.LOSS.FEAT_WEIGHT * loss).backward()
        optimizer.step()
    assert (float(loss.detach()) < 0.01 * before) == stable
    assert (float(loss.detach()) > 100 * before) != stable


def test_crd_rows_of_the_banks_stay_on_the_sphere_and_the_others_where_they_are() -> None:
    spec = make_spec("cnn4")
    method, batch = build("CRD", spec, spec).double(), make_batch(8)
    before = method.memory_student.clone()
    method.losses(random_output(spec, 8, seed=1), random_output(spec, 8, seed=2), batch)
    same(method.memory_student[batch.index].norm(dim=1), torch.ones(8, dtype=torch.float64))
    others = torch.ones(SAMPLES, dtype=torch.bool).index_fill_(0, batch.index, False)
    assert torch.equal(method.memory_student[others], before[others])
    assert method.z_student > 0


def test_crd_negatives_are_of_other_classes_and_cover_them() -> None:
    spec = make_spec("cnn4")
    method, batch = build("CRD", spec, spec, NCE__K=2000), make_batch(8)
    negatives = method.negatives(batch)
    assert (labels()[negatives] != batch.target[:, None]).all()
    for row, target in zip(negatives, batch.target):
        assert set(row.tolist()) == set(torch.nonzero(labels() != target).flatten().tolist())
    assert torch.equal(negatives, method.negatives(batch))


def test_crd_dense_and_gathered_scores_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    def run() -> tuple[Tensor, Tensor]:
        student = F.normalize(draw(4, 8), dim=1).requires_grad_()
        banks = [F.normalize(draw(20, 8, seed=s), dim=1) for s in (2, 3)]
        z = [torch.tensor(-1.0, dtype=torch.float64) for _ in range(2)]
        loss = crd_loss(
            student, F.normalize(draw(4, 8, seed=1), dim=1), torch.arange(4), torch.arange(24).view(4, 6) % 20, *banks,
            temperature=0.07, momentum=0.5, z_student=z[0], z_teacher=z[1], num_data=20,
        )  # fmt: skip
        loss.backward()
        assert student.grad is not None
        return loss.detach(), student.grad

    dense = run()
    for name, value in (("_CHUNK", 7), ("_DENSE_RATIO", 0)):
        monkeypatch.setattr(f"kdbench.distillers.parts.contrast.{name}", value)
        for a, b in zip(dense, run()):
            same(a, b)


def test_crd_gradient_is_that_of_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    bank, index = F.normalize(draw(20, 8, seed=2), dim=1), torch.arange(28).view(4, 7) % 20
    monkeypatch.setattr("kdbench.distillers.parts.contrast._CHUNK", 7)
    z, anchor = torch.tensor(15.0, dtype=torch.float64), F.normalize(draw(4, 8), dim=1).requires_grad_()
    for counts in (occurrences(index, 20), None):

        def loss(x: Tensor, counts: Tensor | None = counts) -> Tensor:
            return contrast(x, bank, index, counts, 0.5, z, True, 20, lambda t: t)

        assert torch.autograd.gradcheck(loss, anchor)


def test_crd_index_that_occurs_twice_takes_its_last_feature() -> None:
    bank, feature = F.normalize(draw(5, 3), dim=1), draw(4, 3, seed=1)
    expected = F.normalize(0.5 * bank[2] + 0.5 * feature[3], dim=0)
    update_memory(bank, torch.tensor([2, 0, 2, 2]), feature, 0.5)
    same(bank[2], expected)


def test_fitnet_adds_up_its_stages() -> None:
    maps = [(draw(2, 3, 4, 4, seed=s), draw(2, 3, 4, 4, seed=s + 9)) for s in range(3)]
    parts = [fitnet_loss([a], [b]) for a, b in maps]
    same(fitnet_loss([a for a, _ in maps], [b for _, b in maps]), torch.stack(parts).sum())


def test_ofd_does_not_punish_what_is_negative_already() -> None:
    margin = ofd_margin(torch.ones(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64))
    same(margin, torch.full((2,), -math.sqrt(2.0 / math.pi), dtype=torch.float64))
    teacher, student = torch.full((1, 2, 2, 2), -5.0), torch.full((1, 2, 2, 2), -9.0)
    same(ofd_loss([student], [teacher], [margin.float()]), 0.0)
    assert ofd_margin(torch.zeros(3), torch.tensor([-1.0, 0.0, 1.0])).isfinite().all()


def test_review_kd_of_a_constant_difference_is_its_square() -> None:
    a = draw(2, 3, 8, 8)
    same(review_kd_loss([a], [a + 2.0]), 4.0)


def test_ipwd_weighs_more_what_only_the_distilled_head_fits() -> None:
    sure = 20.0 * F.one_hot(TARGET, 10).double()
    _, terms = ipwd_loss(sure, TEACHER, draw(6, 10), TARGET, temperature=4.0, return_terms=True)
    _, equal = ipwd_loss(sure, TEACHER, sure, TARGET, temperature=4.0, return_terms=True)
    assert (terms["weight"] > equal["weight"]).all()
    same(equal["weight"], torch.full((6,), 2.0, dtype=torch.float64))


class TestFrequencies:
    """UHKD's own transform, which no golden vector covers."""

    def test_a_constant_map_has_only_frequency_zero(self) -> None:
        result = frequency_representation(torch.full((1, 2, 9, 9), 3.0, dtype=torch.float64), normalize=False)
        same(result[..., 0, 0], torch.full((1, 2), 3.0, dtype=torch.float64))
        result[..., 0, 0] = 0.0
        assert result.max() < 2e-6  # the floor under the root

    def test_the_amplitude_sees_no_circular_shift(self) -> None:
        x = draw(2, 3, 10, 8)
        same(frequency_representation(x.roll((3, 2), (2, 3))), frequency_representation(x))

    def test_tokens_and_map_agree(self) -> None:
        x = draw(2, 3, 8, 8)
        tokens = x.flatten(2).transpose(1, 2)
        same(frequency_representation(tokens.transpose(1, 2).unflatten(2, (8, 8))), frequency_representation(x))

    def test_parseval(self) -> None:
        x = draw(2, 3, 7, 7)
        both = frequency_representation(x, keep=7, mode="complex", normalize=False)
        twice = torch.full((4,), 2.0).double()
        twice[0] = 1.0  # the conjugate half is not stored
        same(49.0 * (both.square() * twice).sum(), x.square().sum())

    def test_it_is_numpys_transform(self) -> None:
        x = draw(1, 2, 10, 9)
        expected = np.fft.rfft2(x.numpy(), norm="forward")[:, :, [0, 1, 2, -2, -1], :3]
        result = frequency_representation(x, keep=5, mode="complex", normalize=False)
        np.testing.assert_allclose(result[:, :2].numpy(), expected.real, atol=1e-14)
        np.testing.assert_allclose(result[:, 2:].numpy(), expected.imag, atol=1e-14)

    def test_equal_representations_cost_nothing(self) -> None:
        rep = frequency_representation(draw(2, 3, 8, 8))
        same(rep.mean((1, 2, 3)), torch.zeros(2, dtype=torch.float64))
        same(uhkd_feature_loss([rep, rep], [rep, rep]), 0.0)

    @pytest.mark.parametrize(
        ("options", "match"), [({"keep": 4}, "odd"), ({"keep": 9}, "odd"), ({"mode": "x"}, "mode")]
    )
    def test_what_it_refuses(self, options: dict[str, Any], match: str) -> None:
        with pytest.raises(ValueError, match=match):
            frequency_representation(draw(1, 1, 7, 7), **options)


LOGIT_LOSSES = {
    "lskd": lambda s, t, y: lskd_loss(s, t, temperature=2.0),
    "lskd_dkd": lambda s, t, y: lskd_dkd_loss(s, t, y, alpha=1.0, beta=8.0, temperature=2.0),
    "rld": lambda s, t, y: rld_loss(s, t, y, alpha=1.0, beta=8.0, temperature=1.0, alpha_temperature=1.0),
    "wttm": lambda s, t, y: wttm_loss(s, t, gamma=0.1),
    "ttm": lambda s, t, y: ttm_loss(s, t, gamma=0.1),
    "ctkd": lambda s, t, y: ctkd_loss(
        s, t, torch.ones((), requires_grad=True), grl_lambda=-1.0, t_start=1.0, t_end=20.0
    ),
    "tekap": lambda s, t, y: tekap_loss(s, t, torch.zeros(3, *t.shape), temperature=4.0),
    "sdd": lambda s, t, y: sdd_kd_loss(s[..., None], t[..., None], y, temperature=4.0),
    "sdd_dkd": lambda s, t, y: sdd_dkd_loss(s[..., None], t[..., None], y, alpha=1.0, beta=8.0, temperature=1.0),
    "ipwd": lambda s, t, y: ipwd_loss(s, t, s, y, temperature=4.0),
}


@pytest.mark.parametrize("name", LOGIT_LOSSES)
def test_logit_gaps_of_ten_thousand_stay_finite(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    student = (torch.randn(8, 20, generator=generator) * 1e4).requires_grad_()
    teacher = torch.randn(8, 20, generator=generator) * 1e4
    loss = LOGIT_LOSSES[name](student, teacher, torch.arange(8))
    loss.backward()
    assert loss.isfinite()
    assert student.grad is not None
    assert student.grad.isfinite().all()


class _LargestTensor(TorchDispatchMode):
    """Remembers the number of elements of the largest tensor that any operation returned."""

    numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        self.numel = max([self.numel, *sizes])
        return result
