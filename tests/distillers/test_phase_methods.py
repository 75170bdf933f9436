"""AB, FT, FSP and SSKD beyond their golden vectors."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import kdbench
from kdbench import functional as f
from kdbench.distillers.base import DataInfo
from kdbench.errors import ConfigError, IncompatibleError

WIDTHS = {"widths": [8, 16, 32]}


def maps(*shapes: tuple[int, ...], seed: int = 0) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=g, dtype=torch.float64) for shape in shapes]


def build(name: str, student: dict[str, Any] = WIDTHS, teacher: dict[str, Any] = WIDTHS, **options: Any) -> Any:
    networks = [
        kdbench.create_model("small_cnn", num_classes=10, seed=n, **own) for n, own in enumerate((student, teacher))
    ]
    return kdbench.create_distiller(name, *networks, data=DataInfo(10), **options)


def test_a_boundary_that_is_kept_by_the_margin_costs_nothing_however_far() -> None:
    (told,) = maps((2, 3, 4, 4))
    kept = torch.where(told > 0, 1.0, -1.0) * torch.linspace(1.001, 50, told.numel()).view_as(told).double()
    assert float(f.ab_loss([kept], [told])) == 0.0
    assert float(f.ab_loss([-kept], [told])) > 1.0
    torch.testing.assert_close(f.ab_loss([kept], [told]), f.ab_loss([kept], [told * 100]))


def test_the_last_of_two_equal_stages_weighs_twice() -> None:
    (own, told) = maps((2, 3, 4, 4), (2, 3, 4, 4))
    _, terms = f.ab_loss([own, own], [told, told], return_terms=True)
    torch.testing.assert_close(terms["stage_1"], 2 * terms["stage_0"])


def test_flow_does_not_see_where_and_is_of_neighbours() -> None:
    own, told = maps((2, 3, 4, 4), (2, 5, 4, 4)), maps((2, 3, 4, 4), (2, 5, 4, 4), seed=1)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(2))
    moved = [x.flatten(2)[..., order].unflatten(2, (4, 4)) for x in own]
    torch.testing.assert_close(f.fsp_loss(moved, told), f.fsp_loss(own, told))
    a, b = own[0].flatten(2), own[1].flatten(2)
    matrix = torch.einsum("bcp,bdp->bdc", a, b) / 16
    wanted = torch.einsum("bcp,bdp->bdc", told[0].flatten(2), told[1].flatten(2)) / 16
    torch.testing.assert_close(f.fsp_loss(own, told), (matrix - wanted).square().mean())


@pytest.mark.parametrize("form", ["repdistiller", "authors"])
def test_factors_are_compared_without_their_scale(form: str) -> None:
    own, told = maps((2, 3, 4, 4), (2, 3, 4, 4))
    loss = f.ft_loss(own, told, form=form)
    torch.testing.assert_close(f.ft_loss(7 * own, told, form=form), loss)
    assert float(f.ft_loss(3 * told, told, form=form)) == pytest.approx(0.0, abs=1e-15)
    flipped = f.ft_loss(-own, told, form=form)
    assert torch.equal(flipped, loss) == (form == "repdistiller")  # a square has no sign


def test_factors_of_zeros_have_finite_gradients() -> None:
    own = torch.zeros(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    (told,) = maps((2, 3, 4, 4))
    for form in ("repdistiller", "authors"):
        f.ft_loss(own, told, form=form).backward()
        assert own.grad is not None
        assert own.grad.isfinite().all()


def test_the_paraphraser_is_a_function_of_seed_and_teacher_alone() -> None:
    one, two = build("FT"), build("FT", student={"widths": [4, 8, 8]})
    assert all(torch.equal(a, b) for a, b in zip(one.encoder.parameters(), two.encoder.parameters(), strict=True))
    assert one.phases()[0].keys == two.phases()[0].keys
    assert build("FT", k=0.25).encoder[-2].out_channels == 8
    assert [type(layer).__name__ for layer in build("FT", preset="authors").translator] == ["Conv2d", "LeakyReLU"] * 3
    assert not any(p.requires_grad for part in (one.encoder, one.decoder) for p in part.parameters())


def test_refusals() -> None:
    with pytest.raises(IncompatibleError, match="the student has 4, the teacher 8"):
        build("FSP", student={"widths": [4, 8, 16]})
    with pytest.raises(IncompatibleError, match=r"K = 0\.01 leaves nothing of the teacher's 32 channels"):
        build("FT", k=0.01)
    with pytest.raises(ConfigError, match="INIT_EPOCHS"):
        build("AB", init_epochs=0)
    networks = [kdbench.create_model(name, num_classes=10, seed=0) for name in ("small_vit", "small_cnn")]
    with pytest.raises(IncompatibleError, match="small_vit has no ReLU at the end of its stages"):
        kdbench.create_distiller("AB", *networks)


def test_after_its_first_phase_ab_asks_the_teacher_only_for_kds_term() -> None:
    plain, with_kd = build("AB"), build("AB", kd_weight=1.0)
    assert (plain.uses_teacher, with_kd.uses_teacher) == (False, True)
    assert with_kd.teacher_needs == {"logits"}
    assert isinstance(plain.connectors[0], torch.nn.Identity)
    other = build("AB", student={"widths": [8, 16, 16]})
    assert [len(list(connector)) for connector in list(other.connectors)[2:]] == [2]


def views(seed: int = 0, size: int = 4) -> tuple[list[torch.Tensor], torch.Tensor]:
    return maps((4 * size, 6), (4 * size, 5), (4 * size, 6), (4 * size, 7), seed=seed), torch.arange(size) % 3


def test_sskd_asks_for_the_upright_view_by_angles_alone() -> None:
    outputs, target = views()
    loss, terms = f.sskd_loss(*outputs, target, return_terms=True)
    own, feat, told, taught = outputs
    _, scaled = f.sskd_loss(own, 7 * feat, told, 0.1 * taught, target, return_terms=True)
    torch.testing.assert_close(scaled, terms)
    _, same = f.sskd_loss(told, taught, told, taught, target, return_terms=True)
    assert all(float(term) == pytest.approx(0.0, abs=1e-12) for term in same.values())
    torch.testing.assert_close(loss, 0.9 * terms["kd"] + 2.7 * terms["tf"] + 10 * terms["ss"])


def test_sskd_keeps_what_the_teacher_gets_right_and_of_the_rest_the_nearest() -> None:
    (own, feat, told, taught), target = views()
    right = target.repeat_interleave(4)
    told = told.clone()
    told[torch.arange(16), right] = 9.0  # right everywhere
    wrong = torch.tensor([1, 6, 11])  # turned views of three images
    told[wrong, right[wrong]] = torch.tensor([-9.0, 1.0, -9.0], dtype=torch.float64)
    turned = torch.tensor([row for row in range(16) if row % 4])
    rows = {row: _kl(own[row], told[row]) for row in turned.tolist()}
    for ratio, left_out in ((1.0, []), (0.5, [1, 11]), (0.0, [1, 6, 11])):
        _, terms = f.sskd_loss(own, feat, told, taught, target, tf_ratio=ratio, return_terms=True)
        kept = [value for row, value in rows.items() if row not in left_out]
        torch.testing.assert_close(terms["tf"], torch.stack(kept).mean())


def _kl(own: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
    wanted, got = (told / 4).softmax(0), (own / 4).softmax(0)
    return 16 * (wanted * (wanted / got).log()).sum()
