"""``kdbench.wrap_model``: any module, by hooks."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import kdbench
from kdbench.errors import ModelError


class Strange(nn.Module):
    """Parameters at the root, tokens within, logits behind a dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.register_buffer("shift", torch.zeros(1))
        self.conv = nn.Sequential(nn.Conv2d(3, 6, 4, stride=4), nn.BatchNorm2d(6), nn.ReLU())
        self.mix = nn.Linear(6, 8)
        self.drop = nn.Dropout(0.5)
        self.unused = nn.Linear(2, 2)
        self.cls = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x * self.scale + self.shift).flatten(2).transpose(1, 2)
        x = self.mix(torch.cat((x[:, :1], x), dim=1))
        return self.cls(self.drop(x.mean(1)))


def wrap(module: nn.Module | None = None, **changes) -> kdbench.FeatureModel:
    options = {"num_classes": 5, "stages": ["conv", "mix"], "classifier": "cls", "input_size": 16, "prefix_tokens": 1}
    return kdbench.wrap_model(module or Strange(), **{**options, **changes})


def test_outputs_are_the_networks_own() -> None:
    torch.manual_seed(0)
    module = Strange().eval()
    model = wrap(module, statistics=((0.5,) * 3, (0.25,) * 3)).eval()
    images = torch.rand(3, 3, 16, 16)
    output = model(images, need={"stages", "prefix"})
    x = (images - 0.5) / 0.25
    assert torch.equal(output.logits, module(x))
    assert [(s.channels, s.grid) for s in model.spec.stages] == [(6, (4, 4)), (8, (4, 4))]
    assert torch.equal(output.stages[0], module.conv(x))
    tokens = module.mix(torch.cat((t := module.conv(x).flatten(2).transpose(1, 2), t), dim=1)[:, [0, *range(16)]])
    torch.testing.assert_close(output.stages[1].flatten(2).transpose(1, 2), tokens[:, 1:])
    assert model.spec.penultimate == 8
    assert model.spec.stem is None
    assert list(model.backbone.state_dict()) == list(Strange().state_dict())


def test_nothing_is_kept_between_passes() -> None:
    model = wrap()
    model(torch.rand(2, 3, 16, 16), need={"stages"})
    model.backbone(torch.rand(2, 3, 16, 16))
    assert (model.backbone._seen.wanted, model.backbone._seen.kept) == (False, {})


def test_copies_and_modes() -> None:
    model = wrap()
    assert model.backbone.network.training
    twin = copy.deepcopy(model).eval()
    assert not twin.backbone.network.training
    assert model.backbone.network.training
    with torch.no_grad():
        twin.backbone.scale.zero_()
    images = torch.rand(2, 3, 16, 16)
    assert not torch.equal(twin(images).logits, model.eval()(images).logits)
    assert torch.equal(twin(images).logits, twin.backbone.network(images))
    twin.double()
    assert twin.backbone.network.shift.dtype == torch.float64
    assert twin.backbone.network.scale.dtype == torch.float64


def test_it_learns_under_a_method() -> None:
    from kdbench.distillers.base import Batch

    student, teacher = wrap().train(), kdbench.create_model("small_mixer", num_classes=5, seed=0).eval()
    method = kdbench.create_distiller(
        "FITNET", student, teacher, kdbench.load_config(overrides={"DISTILLER.TYPE": "FITNET"})
    )
    batch = Batch(torch.rand(4, 3, 16, 16), torch.arange(4), torch.arange(4), torch.arange(4))
    with torch.no_grad():
        given = teacher(batch.images, need=method.teacher_needs)
    sum(method(student, given, batch).values()).backward()
    assert student.backbone.scale.grad.abs() > 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stages": ["convs"]}, ["Strange", "convs", "did you mean 'conv'"]),
        ({"classifier": "fc"}, ["fc"]),
        ({"stages": ["unused"]}, ["does not call unused"]),
        ({"stages": ["drop"]}, ["drop", "(2, 8)", "no (B, C, H, W) map"]),
        ({"num_classes": 6}, ["cls", "6 classes"]),
        ({"stages": "conv"}, ["list of names"]),
        ({"prefix_tokens": 0}, ["mix", "square grid"]),
        ({"classifier": "mix", "stages": []}, ["mix", "no (B, D) vector"]),
    ],
)
def test_what_is_refused(changes: dict, words: list[str]) -> None:
    with pytest.raises(ModelError) as error:
        wrap(**changes)
    for word in words:
        assert word in str(error.value)


def test_a_wrapped_network_answers_after_it_was_exported():
    """``torch.export`` leaves copies of a module's dictionaries behind."""
    model = kdbench.wrap_model(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)), num_classes=5, input_size=8
    )
    model.eval()
    images = torch.rand(2, 3, 8, 8)
    before = model(images, need={"stages"})
    program = torch.export.export(model, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},), strict=False)
    after = model(images, need={"stages"})
    assert torch.equal(before.logits, after.logits)
    assert all(map(torch.equal, before.stages, after.stages))
    assert torch.allclose(program.module()(torch.cat([images, images])).logits[:2], before.logits, atol=1e-6)
