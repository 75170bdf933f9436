"""A teacher is judged by more than its top-1, and one that fails is told with which settings it would pass."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import kdbench
from kdbench.data.source import DataSource, MemorySplit
from kdbench.engine.identity.teacher_records import read_accuracy, write_accuracy
from kdbench.engine.runtime import Runtime
from kdbench.engine.teacher.gate import Judgement, check_gate, judge
from kdbench.engine.teacher.gate_trials import try_settings
from kdbench.errors import TeacherGateError
from kdbench.models.backbone.staged import StagedBackbone
from kdbench.models.feature_model.model import FeatureModel
from kdbench.models.registry import ModelEntry, models
from kdbench.models.spec import IDENTITY

CPU = Runtime(torch.device("cpu"))
#: of the images of :func:`colours`: without it, blue is always the brightest
STATISTICS = ((0.2, 0.5, 0.8), (1.0, 1.0, 1.0))


class Eye(StagedBackbone):
    """Tells the brightest of three colours, of images of one side."""

    def __init__(self, num_classes: int = 3, side: int = 0) -> None:
        super().__init__()
        self.num_classes, self.num_features, self.side = num_classes, 3, side
        self.feature_info = [{"num_chs": 3, "reduction": 1, "module": "conv"}]
        self.conv = nn.Conv2d(3, 3, 1, bias=False)
        self.fc = nn.Linear(3, num_classes)
        with torch.no_grad():
            self.conv.weight.copy_(torch.eye(3)[:, :, None, None])
            self.fc.weight.copy_(torch.eye(num_classes, 3))
            self.fc.bias.zero_()

    def run_stem(self, x):
        return x

    def stage_with_preact(self, i, x):
        return self.conv(x), x

    def run_tail(self, x):
        return x if self.side in (0, x.shape[-1]) else x * 0


for _name, _side in (("test_eye", 0), ("test_eye64", 64)):
    models.add(_name, ModelEntry(_name, functools.partial(Eye, side=_side), "cnn", 32), hidden=True)


def colours(counts: tuple[int, ...] = (20, 20, 20), side: int = 8) -> DataSource:
    """Class k: colour k is a little brighter than it is on the average."""
    labels = torch.cat([torch.full((count,), k) for k, count in enumerate(counts)])
    images = torch.tensor(STATISTICS[0]).mul(255)[None, :].repeat(len(labels), 1)
    images += 30 * torch.nn.functional.one_hot(labels, 3)
    split = MemorySplit(images.round().byte()[:, :, None, None].repeat(1, 1, side, side), labels)
    return DataSource("colours", split, split, ["red", "green", "blue"], STATISTICS)


def config(name: str = "test_eye", **extra):
    return kdbench.load_config(
        overrides={
            "DISTILLER.TEACHER": name,
            "DISTILLER.TYPE": "KD",
            **{k.replace("__", "."): v for k, v in extra.items()},
        }
    )


def teacher(network: nn.Module | None = None, statistics=STATISTICS, size: int = 8, classes: int = 3) -> FeatureModel:
    network = Eye(classes) if network is None else network
    return FeatureModel(
        network, name="test_eye", family="cnn", num_classes=classes, input_size=(size, size), statistics=statistics
    ).eval()


def refusal(model: FeatureModel, data: DataSource, cfg=None) -> str:
    cfg = config() if cfg is None else cfg
    judgement = judge(model, cfg, data, CPU)
    with pytest.raises(TeacherGateError) as caught:
        check_gate(cfg, data, judgement, functools.partial(try_settings, model, cfg, data, CPU))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_good_teacher_passes() -> None:
    found = judge(teacher(), config(), colours(), CPU)
    assert (found.top1, found.mean_recall, found.not_finite, found.moved) == (100.0, 100.0, 0, ())
    check_gate(config(), colours(), found)
    assert Judgement.from_dict(found.to_dict()) == found
    assert Judgement.from_dict({"top1": 90.0}) is None


def test_the_right_statistics_are_found() -> None:
    message = refusal(teacher(statistics=IDENTITY), colours())
    assert (
        "reaches 33.33% top-1 on colours (images of 8 pixels, AUGMENT.CROP_PCT 1, network input of 8 pixels, NORM "
        in message
    )
    assert "on 60 test images it would pass with TEACHER.NORM: dataset (100.0%)" in message


def test_the_right_size_is_found() -> None:
    cfg = config("test_eye64", DATASET__IMAGE_SIZE=96)
    message = refusal(teacher(Eye(side=64), size=96), colours(side=96), cfg)
    assert "images of 96 pixels" in message
    assert "network input of 96 pixels" in message
    assert message.endswith(
        "it would pass with TEACHER.INPUT_SIZE: 64 (100.0%) (TEACHER.FLOOR sets another floor, 0 none)"
    )
    both = refusal(teacher(Eye(side=64), statistics=IDENTITY, size=96), colours(side=96), cfg)
    assert "it would pass with TEACHER.NORM: dataset, TEACHER.INPUT_SIZE: 64 (100.0%)" in both


def test_the_right_crop_is_found() -> None:
    """Every image has a red frame, which a crop of 0.875 cuts off."""
    data = colours(side=32)
    border = torch.zeros_like(data.test.images)
    border[:, 0] = 255
    border[:, :, 2:-2, 2:-2] = data.test.images[:, :, 2:-2, 2:-2]
    split = MemorySplit(border, data.test.labels)
    framed = DataSource("colours", split, split, data.classes, ((1.0,) * 3, (1.0,) * 3))
    model = teacher(statistics=STATISTICS, size=32)
    whole, cut = (
        judge(model, config(DATASET__IMAGE_SIZE=32, AUGMENT__CROP_PCT=crop), framed, CPU) for crop in (1.0, 0.875)
    )
    assert whole.top1 < 40
    assert cut.top1 == 100.0
    message = refusal(model, framed, config(DATASET__IMAGE_SIZE=32, AUGMENT__CROP_PCT=1.0))
    assert "it would pass with AUGMENT.CROP_PCT: 0.875 (100.0%)" in message


def test_what_nothing_mends_is_said() -> None:
    dark = Eye()
    nn.init.zeros_(dark.fc.weight)
    message = refusal(teacher(dark), colours())
    assert "passes with none of TEACHER.NORM imagenet, inception, none, INPUT_SIZE the same" not in message
    assert "passes with none of TEACHER.NORM imagenet, inception, none" in message
    assert "wrong weights?" in message


def test_the_largest_class_alone_is_no_knowledge() -> None:
    constant = Eye()
    nn.init.zeros_(constant.fc.weight)
    with torch.no_grad():
        constant.fc.bias.copy_(torch.tensor([1.0, 0.0, 0.0]))
    data = colours((190, 5, 5))
    message = refusal(teacher(constant), data)
    assert "reaches 95.00% top-1" in message
    assert "by its largest classes alone: the mean over the classes is 33.33%, below the floor of 40.00%" in message
    check_gate(config(TEACHER__FLOOR=0.0), data, judge(teacher(constant), config(), data, CPU))
    check_gate(config(), data, judge(teacher(), config(), data, CPU))


def test_outputs_that_are_not_finite() -> None:
    broken = Eye()
    with torch.no_grad():
        broken.fc.bias.copy_(torch.tensor([0.0, float("nan"), 0.0]))
    for floor in (-1.0, 0.0):
        message = refusal(teacher(broken), colours(), config(TEACHER__FLOOR=floor))
        assert "gives NaN or infinite outputs for 60 test images" in message


def test_another_order_of_the_classes_is_named(caplog: pytest.LogCaptureFixture) -> None:
    turned = Eye()
    with torch.no_grad():
        turned.fc.weight.copy_(torch.eye(3)[[1, 0, 2]])
    message = refusal(teacher(turned), colours((10, 10, 200)))  # 90.9%, far above the floor
    assert (
        "outputs in another order than the classes of colours: it takes 'red' as 'green', 'green' as 'red'; it reaches"
        in message
    )
    assert "90.91% top-1" in message
    assert "100.00% with its outputs exchanged" in message
    assert "TEACHER.INPUT_SIZE" not in message
    free = config(TEACHER__FLOOR=0.0)
    check_gate(free, colours(), judge(teacher(turned), free, colours(), CPU))
    assert "it takes 'red' as 'green'" in caplog.text


def test_a_weak_teacher_is_not_said_to_be_permuted() -> None:
    class Guess(Eye):
        """Right for four of ten images, else anything."""

        def forward_head(self, x, pre_logits=False):
            pooled = super().forward_head(x, pre_logits=True)
            noise = torch.rand(len(x), 3, generator=torch.Generator().manual_seed(len(x)))
            return pooled if pre_logits else noise + 0.35 * nn.functional.one_hot(pooled.argmax(1), 3)

    found = judge(teacher(Guess()), config(), colours((40, 40, 40)), CPU)
    assert 40 < found.top1 < 90
    assert found.moved == ()
    found = judge(teacher(Eye(), statistics=IDENTITY), config(), colours(), CPU)
    assert found.moved == ()


def test_a_file_that_says_its_size_is_tried_with_it(tmp_path: Path) -> None:
    """A kdbench export of 24 pixels, which is none of the common sizes."""
    from kdbench.models.weights.export import save_student

    save_student(tmp_path / "w.safetensors", Eye(side=24), {"input_size": [24, 24], "statistics": STATISTICS})
    cfg = config("test_eye64", DATASET__IMAGE_SIZE=40, TEACHER__WEIGHTS=str(tmp_path / "w.safetensors"))
    message = refusal(teacher(Eye(side=24), size=40), colours(side=40), cfg)
    assert "it would pass with TEACHER.INPUT_SIZE: 24 (100.0%)" in message


@pytest.mark.parametrize("change", [{"top1": float("nan")}, {"top1": 99.0}, {"sha256": "0"}])
def test_a_changed_record_of_an_accuracy_is_not_believed(tmp_path: Path, change: dict[str, Any]) -> None:
    write_accuracy(tmp_path, "key", {"top1": 50.0, "sha256": "1"})
    assert read_accuracy(tmp_path, "key")["top1"] == 50.0
    (file,) = tmp_path.rglob("key.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    assert read_accuracy(tmp_path, "key") is None


@pytest.mark.parametrize("text", ['{"top1": NaN}', '{"top1": 101}', '{"top1": -1}', "[]", "1", "{"])
def test_a_record_without_a_seal_has_an_accuracy_in_its_range(tmp_path: Path, text: str) -> None:
    write_accuracy(tmp_path, "key", {"top1": 50.0})
    (file,) = tmp_path.rglob("key.json")
    file.write_text(text)
    assert read_accuracy(tmp_path, "key") is None
