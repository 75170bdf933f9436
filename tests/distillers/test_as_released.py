"""What the releases of OFD, OFA and LDRLD do besides their losses: teacher's statistics, stages, learning rate."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import kdbench
from kdbench.bench.results.recipe import recipe
from kdbench.config.load import to_dict
from kdbench.data.build import build_data
from kdbench.distillers.base import Batch, DataInfo
from kdbench.distillers.create import create_distiller
from kdbench.distillers.ofd import ofd_loss, ofd_margin
from kdbench.engine.session.locate import locate
from kdbench.engine.training.optimiser.optim import Schedule
from kdbench.errors import ConfigError
from kdbench.models.feature_model.stage_choice import choose_stages
from kdbench.models.names import find_entry
from kdbench.models.spec import ModelOutput
from kdbench.models.stage_names import plain_choice
from kdbench.models.zoo import create_model

FAKE = {"DATASET.TYPE": "fake", "DATASET.OPTIONS": {"num_classes": 5, "size": 64, "train": 20, "test": 10}}


def ofd(statistics: str, parts: str = "OFD"):
    student = create_model("resnet8", num_classes=5, seed=1).train()
    teacher = create_model("resnet14", num_classes=5, seed=2).eval().requires_grad_(False)
    for module in teacher.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    cfg = kdbench.load_config(overrides={"DISTILLER.TYPE": parts, "OFD.TEACHER_STATISTICS": statistics})
    return create_distiller(parts, student, teacher, cfg, data=DataInfo(5, 20)), student, teacher


def batch() -> Batch:
    torch.manual_seed(0)
    return Batch(torch.rand(4, 3, 32, 32), torch.arange(4), torch.arange(4), torch.arange(4))


def test_ofd_with_the_teachers_statistics_of_the_batch() -> None:
    method, student, teacher = ofd("batch")
    assert method.needs_networks
    before = copy.deepcopy(teacher.state_dict())
    terms = method(student, teacher, batch())
    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())
    assert not any(module.training for module in teacher.modules())
    training = copy.deepcopy(teacher).train()  # as the releases leave it
    with torch.no_grad():
        told = training(batch().images, need={"pre_activation", "bn_affine"})
    own = create_model("resnet8", num_classes=5, seed=1).train()(batch().images, need={"pre_activation"})
    fresh, _, _ = ofd("batch")
    expected = ofd_loss(
        [connector(x) for connector, x in zip(fresh.connectors, own.pre_activation)],
        told.pre_activation,
        [ofd_margin(*pair) for pair in told.bn_affine],
    )
    torch.testing.assert_close(terms["ofd"], 1e-3 * expected)
    terms["ofd"].backward()
    assert all(p.grad is None for p in teacher.parameters())


def test_ofd_with_the_teacher_as_it_was_trained() -> None:
    method, student, teacher = ofd("running")
    assert not method.needs_networks
    with torch.no_grad():
        output = teacher(batch().images, need=method.teacher_needs)
    plain = method(student, output, batch())["ofd"]
    method, student, teacher = ofd("batch")
    assert not torch.isclose(plain, method(student, teacher, batch())["ofd"], rtol=1e-2)
    with pytest.raises(ConfigError, match=r"OFD\.TEACHER_STATISTICS.*running.*batch"):
        kdbench.load_config(overrides={"DISTILLER.TYPE": "OFD", "OFD.TEACHER_STATISTICS": "batches"})


def test_ofds_statistics_in_a_composition_are_every_parts() -> None:
    method, student, teacher = ofd("batch", "OFD+KD")
    terms = method(student, teacher, batch())
    training = copy.deepcopy(teacher).train()
    alone = create_distiller("KD", student, teacher, kdbench.load_config(overrides={"DISTILLER.TYPE": "KD"}))
    own = create_model("resnet8", num_classes=5, seed=1).train()
    with torch.no_grad():
        output: ModelOutput = training(batch().images)
    torch.testing.assert_close(terms["kd/kd"], alone(own, output, batch())["kd"])


def test_an_ofd_run_trains(tmp_path) -> None:
    student = kdbench.create_model("resnet14", num_classes=5, seed=3).backbone
    torch.save(student.state_dict(), tmp_path / "t.pth")
    named = {
        "DISTILLER.TYPE": "OFD",
        "DISTILLER.TEACHER": "resnet14",
        "DISTILLER.STUDENT": "resnet8",
        "TEACHER.NORM": "none",
    }
    fast = {
        "SOLVER.EPOCHS": 1,
        "SOLVER.BATCH_SIZE": 10,
        "TEACHER.WEIGHTS": str(tmp_path / "t.pth"),
        "LOG.PREFIX": str(tmp_path),
    }
    small = {"DATASET.TYPE": "fake", "DATASET.OPTIONS": {"num_classes": 5, "size": 32, "train": 20, "test": 10}}
    runs = [kdbench.train(kdbench.load_config(overrides={**small, **named, **fast, **extra})) for extra in (
        {},
        {"OFD.TEACHER_STATISTICS": "running"},
        {"OFD.TEACHER_STATISTICS": "batch"},
    )]  # fmt: skip
    assert runs[0].run_id == runs[1].run_id != runs[2].run_id


@pytest.mark.parametrize("preset", ["heterogeneous", "imagenet", "ofa_w01"])
@pytest.mark.parametrize(
    ("student", "stages", "extra"),
    [
        # extra parameters with a teacher 768 wide and 100 classes, as of the release's own class
        ("MobileNetV2", ["24x56x56", "32x28x28", "96x14x14", "1280x7x7"], 2_529_296),
        ("ResNet18", ["64x56x56", "128x28x28", "256x14x14", "512x7x7"], 1_626_256),
        ("DeiT-T", ["192x14x14"] * 4, 3_783_184),
        ("ResMLP-S12", ["384x14x14"] * 4, 14_938_768),
    ],
)
def test_ofas_presets_take_the_releases_stages(preset: str, student: str, stages: list[str], extra: int) -> None:
    cfg = kdbench.load_config(overrides={"DISTILLER.TYPE": "OFA", "DISTILLER.PRESET": preset})
    assert cfg.STUDENT.STAGES == "ofakd"
    assert "STUDENT" not in cfg.OFA
    with torch.device("meta"):
        spec = create_model(student, num_classes=100, data_size=224, stages=cfg.STUDENT.STAGES).spec
        teacher = create_model("Swin-T", num_classes=100).spec
    assert [f"{s.channels}x{s.grid[0]}x{s.grid[1]}" for s in spec.stages] == stages
    if student in ("DeiT-T", "ResMLP-S12"):
        assert [s.name for s in spec.stages] == ["1", "3", "9", "11"]
    assert create_distiller("OFA", spec, teacher, cfg).extra_parameters() == extra


def test_a_named_choice_beats_the_presets() -> None:
    given = {"DISTILLER.TYPE": "OFA", "DISTILLER.PRESET": "heterogeneous", "STUDENT.STAGES": "auto"}
    assert kdbench.load_config(overrides=given).STUDENT.STAGES == "auto"
    assert kdbench.load_config(overrides={"DISTILLER.TYPE": "OFA"}).STUDENT.STAGES == "auto"


def run_of(student: str, stages: str) -> tuple[str, object]:
    named = {"DISTILLER.STUDENT": student, "STUDENT.STAGES": stages}
    cfg = kdbench.load_config(overrides={**FAKE, **named})
    return locate(cfg, build_data(cfg))[0].path.name, recipe(to_dict(cfg))["STUDENT.STAGES"]


def test_stages_that_are_the_same_are_one_run() -> None:
    for student in ("ResNet18", "Swin-Pico", "timm:resnet10t", "MobileNetV1"):
        assert run_of(student, "ofakd") == run_of(student, "auto"), student
    for student in ("MobileNetV2", "DeiT-T"):
        assert run_of(student, "ofakd") != run_of(student, "auto"), student


@pytest.mark.parametrize(
    "name",
    [
        *("ResNet34", "mdistiller:ResNet18", "MobileNetV1", "Swin-Nano", "Swin-T", "ConvNeXt-T", "timm:resnet10t"),
        *("timm:resnetv2_50", "timm:resnetrs50", "timm:swin_s3_tiny_224", "timm:mobilenetv1_100"),
    ],
)
def test_named_stages_are_the_automatic_ones_where_that_is_said(name: str) -> None:
    entry = find_entry(name, 224)
    assert plain_choice(entry.tag or entry.name, "ofakd") == "auto"
    assert plain_choice(entry.tag or entry.name, [0, 1]) == [0, 1]
    with torch.device("meta"):
        backbone = entry.build(num_classes=3)
    assert choose_stages(backbone, entry.name, "ofakd") == choose_stages(backbone, entry.name, "auto")


def test_other_networks_keep_the_choice() -> None:
    for name in (
        "resnet20",
        "ResNet18",
        "timm mobilenetv2_100.ra_in1k",
        "timm vit_small_patch16_224",
        "timm deit_tiny",
    ):
        assert plain_choice(name, "ofakd") == "ofakd"


def test_ldrlds_rate_before_and_after_its_warm_up() -> None:
    cfg = kdbench.load_config("configs/cifar100/ldrld.yaml")
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=cfg.SOLVER.LR)
    schedule = Schedule(cfg, optimizer, steps=10)
    rates = {epoch: schedule.set(epoch, 0) for epoch in (1, 2, 10, 19, 20, 21, 150, 151, 181, 211)}
    expected = {
        1: 0.0025,
        2: 0.005,
        10: 0.025,
        19: 0.0475,
        20: 0.05,
        21: 0.05,
        150: 0.05,
        151: 5e-3,
        181: 5e-4,
        211: 5e-5,
    }
    assert rates == pytest.approx(expected)
