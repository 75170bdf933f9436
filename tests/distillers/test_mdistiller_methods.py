"""What NST, PKT, SP, VID and KDSVD do beyond their golden vectors."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from method_fixtures import build, make_batch, make_spec, random_output, rotation
from torch import Tensor
from torch.nn.functional import normalize

from kdbench.distillers.kdsvd import kdsvd_loss
from kdbench.distillers.nst import nst_loss
from kdbench.distillers.parts.singular_vectors import as_matrices, leading_vectors
from kdbench.distillers.parts.stage_pairs import same_grid
from kdbench.distillers.pkt import pkt_loss
from kdbench.distillers.sp import sp_loss
from kdbench.distillers.vid import vid_loss
from kdbench.errors import ConfigError, IncompatibleError


def draw(*shape: int, seed: int = 0, grad: bool = False) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=g, dtype=torch.float64).requires_grad_(grad)


def test_maps_meet_at_the_smaller_height_and_width() -> None:
    one, other = same_grid(draw(2, 3, 8, 4), draw(2, 5, 4, 6, seed=1))
    assert (one.shape, other.shape) == ((2, 3, 4, 4), (2, 5, 4, 4))
    same = draw(2, 3, 4, 4)
    assert same_grid(same, other)[0] is same


@pytest.mark.parametrize("side", [2, 8], ids=["products of places", "products of channels"])
def test_nst_is_its_kernel_over_all_pairs_of_channels(side: int) -> None:
    student, teacher = draw(2, 5, side, side), draw(2, 7, side, side, seed=1)
    s, t = (normalize(x.flatten(2), dim=2) for x in (student, teacher))

    def mean(a: Tensor, b: Tensor) -> Tensor:
        return torch.einsum("bcp,bdp->bcd", a, b).pow(2).mean()

    expected = mean(t, t) + mean(s, s) - 2 * mean(s, t)
    torch.testing.assert_close(nst_loss([student], [teacher]), expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("side", [2, 8])
def test_nst_ignores_the_order_and_scale_of_channels_and_gives_dead_ones_no_gradient(side: int) -> None:
    teacher = draw(3, 6, side, side)
    same = (teacher.flip(1) * torch.arange(1, 7)[:, None, None]).requires_grad_()
    loss = nst_loss([same], [teacher])
    assert abs(loss.item()) < 1e-14
    dead = draw(3, 6, side, side, seed=1) * torch.tensor([1, 1, 0, 1, 1, 1])[:, None, None]
    dead.requires_grad_()
    nst_loss([dead], [teacher]).backward()
    assert dead.grad is not None
    assert not dead.grad[:, 2].any()
    assert dead.grad[:, 3].any()


def test_pkt_ignores_rotation_and_scale_and_survives_a_row_of_zeros() -> None:
    teacher, student = draw(6, 8), draw(6, 5, seed=1)
    turned = 1e3 * teacher @ rotation(8)
    assert abs(pkt_loss(turned, teacher).item()) < 1e-9
    assert pkt_loss(student, teacher) > 0
    student[2] = 0.0
    student.requires_grad_()
    pkt_loss(student, teacher).backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()


def test_sp_sees_similarities_alone_and_does_not_divide_by_an_empty_map() -> None:
    teacher, student = draw(5, 8), draw(5, 3, 2, 2, seed=1)
    assert sp_loss([3.0 * teacher @ rotation(8)], [teacher]).item() < 1e-20
    places = student.flatten(2).flip(2).unflatten(2, (2, 2))
    torch.testing.assert_close(sp_loss([places], [teacher]), sp_loss([student], [teacher]))
    student[1] = 0.0
    student.requires_grad_()
    sp_loss([student], [teacher]).backward()
    assert student.grad is not None
    assert student.grad.any()
    assert student.grad.abs().max() < 1  # through the other samples' rows; its own would give 1e12


def test_vid_learns_the_mean_squared_error_as_its_variance() -> None:
    mean, target = draw(4, 3, 2, 2), 2.0 * draw(4, 3, 2, 2, seed=1)
    error = (mean - target).square().mean((0, 2, 3))
    scale = torch.log(torch.expm1(error - 1e-5)).requires_grad_()
    vid_loss([mean], [target], [scale]).backward()
    assert scale.grad is not None
    assert scale.grad.abs().max() < 1e-12
    large = vid_loss([mean.float()], [target.float()], [torch.full((3,), 200.0)])
    torch.testing.assert_close(large, (0.5 * (error.mean() / 200 + torch.tensor(200.0).log())).float())


def test_vid_starts_at_its_variance_and_may_keep_it() -> None:
    specs = make_spec("cnn4"), make_spec("cnn4", width=32)
    trained = build("VID", *specs, INIT_PRED_VAR=3.0)
    kept = build("VID", *specs, TRAIN_SCALE=False)
    for method, variance in ((trained, 3.0), (kept, 5.0)):
        for scale in method.log_scales:
            torch.testing.assert_close(
                torch.nn.functional.softplus(scale) + 1e-5, torch.full_like(scale, variance), rtol=1e-6, atol=0
            )
    pairs = list(zip(specs[0].stages, specs[1].stages))
    weights = sum(s.channels * t.channels + 2 * t.channels**2 for s, t in pairs)
    assert kept.extra_parameters() == weights
    assert trained.extra_parameters() == weights + sum(t.channels for _, t in pairs)
    with pytest.raises(ConfigError, match=r"VID.INIT_PRED_VAR: expects more than VID.EPS"):
        build("VID", *specs, INIT_PRED_VAR=1e-6)


@pytest.mark.parametrize("shape", [(2, 7, 5), (2, 4, 6)], ids=["tall", "wide"])
def test_leading_vectors_are_those_of_a_singular_value_decomposition(shape: tuple[int, ...]) -> None:
    own, other = draw(*shape, grad=True), draw(*shape, grad=True)
    vectors, values = leading_vectors(own, 3)
    _, expected_values, expected = torch.linalg.svd(other, full_matrices=False)
    expected = expected.mT[:, :, :3]
    signs = (vectors * expected).sum(1, keepdim=True).sign().detach()
    torch.testing.assert_close(vectors, signs * expected)
    ratio = values / expected_values[:, :3]
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio))
    weights = draw(*vectors.shape, seed=2)
    (vectors * weights).sum().backward()
    (signs * expected * weights).sum().backward()
    torch.testing.assert_close(own.grad, other.grad, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    "matrix",
    [torch.zeros(4, 3), torch.eye(4)[:, :3], torch.ones(4, 3), torch.ones(2, 5), 1e30 * torch.eye(3)],
    ids=["zeros", "equal", "rank 1", "wide", "huge"],
)
def test_the_gradient_is_finite_where_singular_values_coincide(matrix: Tensor) -> None:
    own = matrix[None].clone().requires_grad_()
    vectors, values = leading_vectors(own, 3)
    (vectors * draw(*vectors.shape).float()).sum().backward()
    assert own.grad is not None
    assert all(x.isfinite().all() for x in (vectors, values, own.grad))


@pytest.mark.parametrize("layout", ["mdistiller", "authors"])
def test_kdsvd_does_not_see_signs_and_is_0_for_equal_networks(layout: str) -> None:
    student, teacher = ([draw(2, 4, 5, 5, seed=seed + i) for i in range(3)] for seed in (0, 10))
    expected = kdsvd_loss(student, teacher, k=2, layout=layout)
    assert expected > 0
    turned = [-student[0], student[1], 7.0 * student[2]], [teacher[0], -teacher[1], teacher[2]]
    torch.testing.assert_close(kdsvd_loss(*turned, k=2, layout=layout), expected)
    assert kdsvd_loss(teacher, teacher, k=2, layout=layout).item() < 1e-24


def test_kdsvd_is_finite_for_dead_maps() -> None:
    student = [torch.zeros(2, 4, 5, 5, requires_grad=True) for _ in range(2)]
    loss = kdsvd_loss(student, [torch.zeros(2, 4, 5, 5), draw(2, 4, 5, 5).float()], k=2)
    loss.backward()
    assert loss.isfinite()
    assert all(x.grad is not None and x.grad.isfinite().all() for x in student)


def test_kdsvd_compares_what_has_one_width_or_as_many_channels() -> None:
    wide, narrow = make_spec("cnn4", width=32), make_spec("cnn4")
    build("KDSVD", narrow, wide)
    with pytest.raises(IncompatibleError, match="layout authors needs as many channels, and there are 16 and 32"):
        build("KDSVD", narrow, wide, LAYOUT="authors")
    with pytest.raises(
        IncompatibleError, match=r"KDSVD\.K=3 asks for more singular vectors than the 2 of a teacher's map"
    ):
        build("KDSVD", narrow, wide, K=3)
    single = dataclasses.replace(narrow, stages=narrow.stages[-1:])
    with pytest.raises(IncompatibleError, match="both networks need two"):
        build("KDSVD", single, wide)
    authors = build("KDSVD", make_spec("mixer4"), make_spec("vit4"), LAYOUT="authors", K=3)
    outputs = [random_output(make_spec(kind), 4, seed=seed) for seed, kind in enumerate(("mixer4", "vit4"))]
    expected = kdsvd_loss(outputs[0].stages, outputs[1].stages, k=3, layout="authors")
    torch.testing.assert_close(authors.losses(*outputs, make_batch(4))["kdsvd"], expected)
    assert as_matrices(outputs[0].stages[0], "authors").shape == (4, 16, 16)


DIRECT = {
    "NST": lambda s, t: 50.0 * nst_loss(s.stages, t.stages),
    "PKT": lambda s, t: 30000.0 * pkt_loss(s.penultimate, t.penultimate),
    "SP": lambda s, t: 3000.0 * sp_loss(s.stages[-1:], t.stages[-1:]),
    "KDSVD": lambda s, t: kdsvd_loss(s.stages, t.stages),
}


@pytest.mark.parametrize("name", DIRECT)
def test_class_is_its_function(name: str) -> None:
    spec, batch = make_spec("cnn4"), make_batch()
    student, teacher = random_output(spec, 8, seed=1), random_output(spec, 8, seed=2)
    losses = build(name, spec, spec).losses(student, teacher, batch)
    torch.testing.assert_close(losses[name.lower()], DIRECT[name](student, teacher), rtol=1e-12, atol=0)
    torch.testing.assert_close(losses["ce"], torch.nn.functional.cross_entropy(student.logits, batch.target))


@pytest.mark.parametrize("name", ["PKT", "SP", "SRD"])
def test_one_sample_is_refused(name: str) -> None:
    spec = make_spec("cnn4")
    with pytest.raises(IncompatibleError, match="at least 2"):
        build(name, spec, spec).check_batch(1)
