"""What ViTKD and DiffKD do beyond their golden vectors."""

from __future__ import annotations

import pytest
import torch

import kdbench
from kdbench.bench.methods.conformance import create_pair
from kdbench.distillers.parts.networks.diffusion import Refinement
from kdbench.distillers.vitkd import TokenGeneration
from kdbench.errors import IncompatibleError


def test_vitkd_masks_so_many_tokens_of_each_sample_and_what_they_were_does_not_matter() -> None:
    module, noise = TokenGeneration([], (4, 6)), torch.rand(3, 9)
    high = torch.randn(3, 4, 3, 3)
    _, generated, masked = module([], high, noise, 0.5)
    assert masked.flatten(1).sum(dim=1).tolist() == [5.0] * 3  # 9 less the whole part of 4.5
    kept = noise.view(3, 1, 3, 3).where(masked == 0, -1.0).amax(dim=(1, 2, 3))
    assert bool((kept <= noise.view(3, 1, 3, 3).where(masked > 0, 2.0).amin(dim=(1, 2, 3))).all())
    other = torch.where(masked > 0, high + 5, high)
    torch.testing.assert_close(module([], other, noise, 0.5)[1], generated)
    assert not torch.allclose(module([], high + 5, noise, 0.5)[1], generated)


@pytest.mark.parametrize(
    ("teacher", "student", "words"),
    [
        ("small_cnn", "small_vit", "the teacher small_cnn is no transformer"),
        ("small_vit", "small_cnn", "the student small_cnn is no transformer"),
    ],
)
def test_vitkd_is_between_transformers(teacher, student, words) -> None:
    with pytest.raises(IncompatibleError, match=words):
        create_pair("VITKD", (teacher, {}), (student, {}))


def test_vitkds_maps_are_those_of_the_first_blocks_under_its_preset() -> None:
    cfg = kdbench.load_config(overrides={"DISTILLER.TYPE": "VITKD", "DISTILLER.PRESET": "blocks"})
    assert cfg.TEACHER.STAGES == cfg.STUDENT.STAGES == (0, 1, -1)
    model = kdbench.create_model("small_vit", num_classes=4, stages=cfg.TEACHER.STAGES)
    assert len(model.spec.stages) == 3


def test_diffkds_gradient_runs_through_all_steps_to_the_student_and_not_to_the_teacher() -> None:
    torch.manual_seed(0)
    tap = Refinement(4, 16, kernel=3, width=8)
    student, teacher = torch.randn(3, 4, 2, 2, requires_grad=True), torch.randn(3, 16, 2, 2, requires_grad=True)
    start, noise = torch.randn(2, 3, 8, 2, 2)
    refined, target, terms = tap(student, teacher, start, noise, torch.tensor([0, 500, 999]))
    assert refined.shape == target.shape == (3, 8, 2, 2)
    assert not target.requires_grad
    refined.square().sum().backward(retain_graph=True)
    assert float(student.grad.abs().sum()) > 0
    assert teacher.grad is None
    assert set(terms) == {"autoencoder", "diffusion"}
    assert float(tap.noise_adapter.pred.weight.grad.abs().sum()) > 0


def test_a_noise_adapter_that_keeps_everything_leaves_no_noise_in_the_start() -> None:
    torch.manual_seed(0)
    tap = Refinement(8, 8, kernel=3)
    with torch.no_grad():
        tap.noise_adapter.pred.weight.zero_()
        tap.noise_adapter.pred.bias.copy_(torch.tensor([60.0, -60.0]))
    student, teacher = torch.randn(2, 3, 8, 2, 2)
    noise, times = torch.zeros(3, 8, 2, 2), torch.zeros(3, dtype=torch.int64)
    one, other = (tap(student, teacher, start, noise, times)[0] for start in torch.randn(2, 3, 8, 2, 2))
    torch.testing.assert_close(one, other)


def test_diffkd_compresses_wider_teachers_alone() -> None:
    for width, compressed in ((0, False), (16, True), (4096, False)):
        cfg = kdbench.load_config(overrides={"DISTILLER.TYPE": "DIFFKD", "DIFFKD.AE_CHANNELS": width})
        networks = [kdbench.create_model("small_cnn", num_classes=4, widths=[8, 16, 32]) for _ in range(2)]
        method = kdbench.create_distiller("DIFFKD", *networks, cfg)
        assert (method.feature.ae is not None) == compressed
        batch = kdbench.Batch(torch.rand(6, 3, 8, 8), torch.arange(6) % 4)
        terms = method(networks[0], method.taught(networks[1], batch), batch)
        assert ("feature_autoencoder" in terms) == compressed
    narrow = [kdbench.create_model("small_cnn", num_classes=4, widths=[4, 4, 4]) for _ in range(2)]
    with pytest.raises(IncompatibleError, match="has 4 channels, and the noise adapter takes an eighth"):
        kdbench.create_distiller("DIFFKD", *narrow)
