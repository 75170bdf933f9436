"""ICKD, its other form, AFD and SemCKD beyond their golden vectors."""

from __future__ import annotations

import pytest
import torch
from method_fixtures import CLASSES, SAMPLES, build, config, labels, make_batch, make_spec, random_output, rotation
from tiny_run import settings

import kdbench
from kdbench import functional as f
from kdbench.distillers.base import DataInfo, distillers
from kdbench.errors import IncompatibleError, LossError


def maps(*shapes: tuple[int, ...], seed: int = 0) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=g, dtype=torch.float64) for shape in shapes]


def test_relations_of_channels_do_not_see_places_or_scale() -> None:
    (own, told) = maps((3, 5, 4, 4), (3, 5, 4, 4))
    loss = f.ickd_loss([own], [told])
    moved = (own.flatten(2) @ rotation(16)).unflatten(2, (4, 4)) * 7
    torch.testing.assert_close(f.ickd_loss([moved], [told]), loss)
    assert float(f.ickd_loss([3 * told], [told])) == pytest.approx(0.0, abs=1e-20)
    torch.testing.assert_close(f.chsim_loss([own], [told]), loss / 3)


def test_ickds_stages_add_up() -> None:
    own, told = maps((2, 5, 4, 4), (2, 3, 2, 2)), maps((2, 5, 8, 8), (2, 3, 2, 2), seed=1)
    both, terms = f.ickd_loss(own, told, return_terms=True)
    torch.testing.assert_close(both, sum(f.ickd_loss([s], [t]) for s, t in zip(own, told)))
    assert set(terms) == {"stage_0", "stage_1"}


@pytest.mark.parametrize("loss", [f.ickd_loss, f.chsim_loss])
def test_dead_channels_have_finite_gradients(loss) -> None:
    own, told = maps((2, 4, 3, 3), (2, 4, 3, 3))
    own[:, 1], told[:, 2], own[0] = 0, 0, 0
    own.requires_grad_(True)
    value = loss([own], [told])
    value.backward()
    assert value.isfinite()
    assert own.grad is not None
    assert own.grad.isfinite().all()


def test_afd_is_a_weighted_mean_of_distances_of_energy() -> None:
    own, told = maps((2, 3, 4, 4), (2, 5, 2, 2)), maps((2, 4, 2, 2), seed=1)
    attention = torch.tensor([[[1.0, 0.0]], [[0.25, 0.75]]], dtype=torch.float64)
    energies = [torch.nn.functional.adaptive_avg_pool2d((x**2).mean(1), 2).flatten(1) for x in own]
    target = (told[0] ** 2).mean(1).flatten(1)
    unit = [v / v.norm(dim=1, keepdim=True) for v in (*energies, target)]
    near, far = (((v - unit[2]) ** 2).mean(1) for v in unit[:2])
    expected = (near[0] + 0.25 * near[1] + 0.75 * far[1]) / 2
    torch.testing.assert_close(f.afd_loss(own, told, attention), expected)


def test_afds_terms_with_other_numbers_of_stages() -> None:
    student, teacher = make_spec("cnn3"), make_spec("vit4", width=32)
    method = build("AFD", student, teacher, QK_DIM=8).double().train()
    own, told = random_output(student, 8, seed=1), random_output(teacher, 8, seed=2)
    terms = method.losses(own, told, make_batch())
    attention = method.attention(own.stages, told.stages)
    assert attention.shape == (8, 4, 3)
    torch.testing.assert_close(terms["afd"], 200.0 * f.afd_loss(own.stages, told.stages, attention))
    torch.testing.assert_close(terms["kd"], 0.9 * f.kd_loss(own.logits, told.logits, temperature=4.0))
    torch.testing.assert_close(terms["ce"], torch.nn.functional.cross_entropy(own.logits, make_batch().target))


def semckd(batch: int = 8, **changes):
    info = DataInfo(CLASSES, SAMPLES, labels(), batch)
    specs = make_spec("cnn3"), make_spec("vit4", width=32)
    return distillers.get("SEMCKD")(*specs, config("SEMCKD", **changes), info).double().train()


def test_semckds_matching_has_an_input_for_each_sample_of_the_runs_batch() -> None:
    assert semckd(8).matching.queries[0][0].in_features == 8
    assert semckd(0).matching.queries[0][0].in_features == 64
    assert semckd(8, BATCH=20, FACTOR=2).matching.keys[3][2].out_features == 10
    with pytest.raises(IncompatibleError, match=r"SEMCKD\.BATCH is 4, and batches have 8 samples"):
        semckd(8, BATCH=4)


def test_semckds_smaller_batch_is_filled_with_zeros_and_a_larger_one_refused() -> None:
    method = semckd(8)
    student, teacher = (random_output(method.student_spec, 6, seed=1), random_output(method.teacher_spec, 6, seed=2))
    own, _, weight = method.matching(student.stages, teacher.stages)
    assert weight.shape == (6, 3, 4)
    torch.testing.assert_close(weight.sum(2), torch.ones_like(weight[..., 0]))
    rows = student.stages[1].flatten(1)
    gram = torch.cat((rows @ rows.mT, torch.zeros(6, 2)), dim=1)
    query = torch.nn.functional.normalize(method.matching.queries[1](gram), dim=1)
    rows = [stage.flatten(1) @ stage.flatten(1).mT for stage in teacher.stages]
    keys = [layer(torch.cat((x, torch.zeros(6, 2)), dim=1)) for layer, x in zip(method.matching.keys, rows)]
    scores = torch.stack([(query * torch.nn.functional.normalize(key, dim=1)).sum(1) for key in keys], dim=1)
    torch.testing.assert_close(weight[:, 1], scores.softmax(1))
    assert own[0].shape == (6, 32, 4, 4)
    large = (random_output(method.student_spec, 9, seed=1), random_output(method.teacher_spec, 9, seed=2))
    with pytest.raises(LossError, match="built for batches of 8, and one has 9"):
        method.losses(*large, make_batch(9))


def test_a_run_of_semckd_takes_its_own_batch(tmp_path) -> None:
    cfg = settings(tmp_path, 1, **{"DISTILLER.TYPE": "SEMCKD", "DISTILLER.TEACHER": "small_mixer"})
    result = kdbench.train(cfg)
    model = kdbench.create_model("small_cnn", num_classes=4, data_size=8)
    teacher = kdbench.create_model("small_mixer", num_classes=4, data_size=8)
    info = DataInfo(4, batch=16)
    expected = kdbench.create_distiller("SEMCKD", model, teacher, data=info).extra_parameters()
    assert result.extra_params == expected
