"""DeiT's distillation token: two heads of one student, what they learn, and that both are deployed as their mean."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import kdbench
from kdbench.bench.methods.replay import check_replay
from kdbench.distillers.create import create_distiller
from kdbench.distillers.deit import deit_loss
from kdbench.errors import IncompatibleError

SETTINGS = {
    "DATASET.TYPE": "fake",
    "DATASET.OPTIONS": {"size": 8, "train": 32, "test": 16, "num_classes": 5},
    "DATASET.NUM_WORKERS": 0,
    "DISTILLER.TYPE": "DEIT",
    "DISTILLER.TEACHER": "small_cnn",
    "DISTILLER.STUDENT": "small_vit",
    "STUDENT.OPTIONS": {"distilled": True, "dim": 16, "heads": 2},
    "AUGMENT.CROP": "none",
    "SOLVER.EPOCHS": 2,
    "SOLVER.BATCH_SIZE": 16,
    "SOLVER.LR": 0.01,
}


def network(name: str = "small_vit", **options: object):
    return kdbench.create_model(name, num_classes=5, data_size=8, seed=1, **options)


def images() -> torch.Tensor:
    return torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("also", [set(), {"stages", "prefix"}])
def test_logits_are_the_mean_of_both_heads(training: bool, also: set[str]) -> None:
    student = network(distilled=True).train(training)
    output = student(images(), need={"head_logits", *also})
    own, distilled = output.head_logits
    assert not torch.equal(own, distilled)
    torch.testing.assert_close(output.logits, (own + distilled) / 2)
    torch.testing.assert_close(student.backbone(images()), output.logits)
    assert student(images()).head_logits is None


def test_a_network_of_timm_has_both_heads() -> None:
    small = {"input_size": 32, "img_size": 32, "depth": 2}
    assert "head_logits" in network("timm:deit_tiny_distilled_patch16_224", **small).spec.provides
    assert "head_logits" not in network("timm:deit_tiny_patch16_224", **small).spec.provides


def test_each_head_learns_its_own_term() -> None:
    student, teacher = network(distilled=True).train(), network("small_cnn").eval()
    batch = kdbench.Batch(images(), torch.arange(6) % 5)
    method = create_distiller("DEIT", student, teacher, alpha=0.3)
    with torch.no_grad():
        taught = teacher(batch.images)
    losses = method(student, taught, batch)
    own, distilled = student(batch.images, need={"head_logits"}).head_logits
    torch.testing.assert_close(losses["ce"], 0.7 * F.cross_entropy(own, batch.target))
    torch.testing.assert_close(losses["deit"], 0.3 * F.cross_entropy(distilled, taught.logits.argmax(1)))
    heads = student.backbone.head.weight, student.backbone.head_dist.weight
    for term, reached in (("ce", heads[0]), ("deit", heads[1])):
        gradients = torch.autograd.grad(losses[term], heads, retain_graph=True, allow_unused=True)
        for head, gradient in zip(heads, gradients):
            assert (gradient is not None and bool(gradient.any())) == (head is reached)


def test_soft_labels_are_weighted_a_class_less() -> None:
    student, teacher = torch.randn(4, 7, dtype=torch.float64), torch.randn(4, 7, dtype=torch.float64)
    expected = kdbench.functional.kd_loss(student, teacher, temperature=3.0) / 7
    torch.testing.assert_close(deit_loss(student, teacher, kind="soft", temperature=3.0), expected)
    assert deit_loss(teacher, teacher, kind="soft").item() == 0


def test_a_student_without_the_token_is_refused_before_training(tmp_path: Path) -> None:
    plain = {**SETTINGS, "STUDENT.OPTIONS": {"class_token": True}, "LOG.PREFIX": str(tmp_path)}
    with pytest.raises(IncompatibleError, match="small_vit has no distillation token, which timm:deit_tiny_distilled"):
        kdbench.train(kdbench.load_config(overrides=plain))
    assert not any(tmp_path.iterdir())


def test_a_run_repeats_to_the_byte_and_leaves_both_heads(tmp_path: Path) -> None:
    runs = [
        kdbench.train(kdbench.load_config(overrides={**SETTINGS, **extra, "LOG.PREFIX": str(tmp_path / name)}))
        for name, extra in (("one", {}), ("two", {}), ("cached", {"CACHE.ENABLED": True, "CACHE.DTYPE": "fp32"}))
    ]
    files = [Path(run.folder) / "student.safetensors" for run in runs]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert files[0].read_bytes() == files[2].read_bytes()
    student = network(weights=str(files[0]), **SETTINGS["STUDENT.OPTIONS"]).eval()
    start = network(**SETTINGS["STUDENT.OPTIONS"])
    assert not torch.equal(student.backbone.head_dist.weight, start.backbone.head_dist.weight)
    assert runs[0].top1_last == pytest.approx(runs[2].top1_last)


@pytest.mark.parametrize("teacher", ["cnn", "mlp", "token"])
def test_state_stays_where_it_is(teacher: str) -> None:
    assert check_replay("DEIT", teacher, "distilled") == "runs"
