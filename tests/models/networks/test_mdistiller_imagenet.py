"""mdistiller's networks for ImageNet: layout, activations, start, and what its methods compare."""

from __future__ import annotations

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

import kdbench
from kdbench.bench.results.recipe import recipe
from kdbench.config.load import to_dict
from kdbench.data.build import build_data
from kdbench.engine.session.locate import locate
from kdbench.models.names import find_entry
from kdbench.models.weights.fit import identify
from kdbench.models.weights.published import published_release
from kdbench.models.zoo import create_model


def release_block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False),
        nn.BatchNorm2d(inputs),
        nn.ReLU(),
        nn.Conv2d(inputs, outputs, 1, 1, 0, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


def reference() -> nn.Sequential:
    """Howard et al., Table 1, in the release's order: ``model.<n>`` and ``fc``."""
    rows = [(32, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2)]
    rows += [(512, 512, 1)] * 5 + [(512, 1024, 2), (1024, 1024, 1)]
    first = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU())
    return nn.Sequential(first, *(release_block(*row) for row in rows))


@pytest.fixture(scope="module")
def pair():
    """A network with a file of the release's layout, and that file's values in a plain stack."""
    torch.manual_seed(0)
    body, fc = reference(), nn.Linear(1024, 7)
    for module in body.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 3.0)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean, std=0.1)
    body.eval()
    return body, fc


def test_a_checkpoint_of_the_release_loads_and_is_its_function(tmp_path, pair) -> None:
    body, fc = pair
    state = {f"module.model.{key}": value for key, value in body.state_dict().items()}
    state |= {f"module.fc.{key}": value for key, value in fc.state_dict().items()}
    torch.save({"model": state, "epoch": 100}, tmp_path / "mv1.pth")
    model = create_model("MobileNetV1", num_classes=7, weights=str(tmp_path / "mv1.pth"), norm="imagenet").eval()
    images = torch.rand(2, 3, 224, 224)
    x = model.prepare(images)
    with torch.no_grad():
        out = model(images, need={"stages", "pre_activation", "bn_affine"})
        expected = {}
        for i, block in enumerate(body):
            if i in (3, 5, 11, 13):
                expected[i] = block[:-1](x)
            x = block(x)
        logits = fc(F.avg_pool2d(x, 7).flatten(1))
    torch.testing.assert_close(out.logits, logits)
    for before, after, wanted in zip(out.pre_activation, out.stages, expected.values(), strict=True):
        torch.testing.assert_close(before, wanted)
        torch.testing.assert_close(after, wanted.relu())
    assert float(max(stage.max() for stage in out.stages)) > 6  # no ReLU6
    for (weight, bias), i in zip(out.bn_affine, expected, strict=True):
        assert torch.equal(weight, body[i][-2].weight)
        assert torch.equal(bias, body[i][-2].bias)
    assert [(s.channels, *s.grid) for s in model.spec.stages] == [
        (128, 56, 56),
        (256, 28, 28),
        (512, 14, 14),
        (1024, 7, 7),
    ]
    assert identify(model.backbone.state_dict()) == "MobileNetV1"


@pytest.mark.parametrize("depth", [18, 34, 50])
def test_residual_blocks_start_plain(depth: int) -> None:
    ours = create_model(f"mdistiller:ResNet{depth}", num_classes=5, seed=1).backbone
    timms = create_model(f"timm:resnet{depth}", num_classes=5, seed=1).backbone
    last = "bn2" if depth < 50 else "bn3"
    assert all(float(getattr(block, last).weight.detach().min()) == 1.0 for block in ours.layer3)
    assert all(float(getattr(block, last).weight.detach().max()) == 0.0 for block in timms.layer3)
    assert float(ours.layer1[0].conv1.weight.detach().std()) == pytest.approx(
        (2 / (64 * (9 if depth < 50 else 1))) ** 0.5, rel=0.1
    )


@pytest.mark.parametrize("name", ["ResNet34", "mdistiller:ResNet34", "paper:ResNet50", "mdistiller:ResNet50"])
def test_pretrained_means_torchvisions_first_weights(name: str) -> None:
    depth = name[-2:]
    assert find_entry(name).tag == f"timm resnet{depth}.tv_in1k"
    assert f"resnet{depth}.tv_in1k" in published_release(name)
    assert published_release("ResNet50", 224) == published_release("timm:resnet50.tv_in1k")
    config = timm.models.get_pretrained_cfg(f"resnet{depth}.tv_in1k")
    assert find_entry(name).build(num_classes=1000).pretrained_cfg["tag"] == config.tag == "tv_in1k"


def run_of(name: str):
    settings = {"DATASET.TYPE": "fake", "DATASET.OPTIONS": {"size": 64}, "DISTILLER.STUDENT": name}
    cfg = kdbench.load_config(overrides=settings)
    return locate(cfg, build_data(cfg))[0].path.name, recipe(to_dict(cfg))


def test_the_network_that_took_a_name_has_runs_of_its_own(monkeypatch) -> None:
    new, _ = run_of("MobileNetV1")
    entry = find_entry("MobileNetV1")
    object.__setattr__(entry, "revision", "")
    try:
        assert run_of("MobileNetV1")[0] != new
    finally:
        object.__setattr__(entry, "revision", "mdistiller@a08d46f")


def test_recipes_tell_another_start_apart() -> None:
    names = {name: run_of(name)[1]["DISTILLER.STUDENT"] for name in ("mdistiller:ResNet18", "ResNet18", "MobileNetV1")}
    assert names == {
        "mdistiller:ResNet18": "mdistiller:ResNet18",
        "ResNet18": "timm resnet18",
        "MobileNetV1": "MobileNetV1",
    }


def test_stages_of_the_release_from_resnet50_to_mobilenetv1() -> None:
    """AT: ``feats[1:]`` of both side by side from the front; OFD: ``preact_feats[1:]`` from the back."""
    from kdbench.bench.grids.grid_file import load_grid

    cells = load_grid("configs/grids/table3.yaml", seeds=1, weights=False).cells
    pairs = {}
    for cell in cells:
        if cell.student == "MobileNetV1" and cell.method in ("AT", "OFD"):
            with torch.device("meta"):
                student = create_model(cell.student, num_classes=9, stages=cell.cfg.STUDENT.STAGES).spec
                teacher = create_model("timm:resnet50", num_classes=9, stages=cell.cfg.TEACHER.STAGES).spec
            pairs[cell.method] = [(s.channels, t.channels) for s, t in zip(student.stages, teacher.stages, strict=True)]
    assert pairs == {
        "AT": [(256, 256), (512, 512), (1024, 1024)],
        "OFD": [(256, 512), (512, 1024), (1024, 2048)],
    }


def tiny_block(inputs: int, outputs: int, stride: int, t: int) -> nn.Sequential:
    """A block of the release's MobileNetV2 for Tiny-ImageNet, written down from its description."""
    wide = inputs * t
    return nn.Sequential(
        *(nn.Conv2d(inputs, wide, 1), nn.BatchNorm2d(wide), nn.ReLU6()),
        *(nn.Conv2d(wide, wide, 3, stride, 1, groups=wide), nn.BatchNorm2d(wide), nn.ReLU6()),
        *(nn.Conv2d(wide, outputs, 1), nn.BatchNorm2d(outputs)),
    )


def test_mobilenetv2_of_tiny_imagenet_reads_the_releases_layout_and_is_its_function(tmp_path) -> None:
    torch.manual_seed(0)
    pre = nn.Sequential(nn.Conv2d(3, 32, 1, padding=1), nn.BatchNorm2d(32), nn.ReLU6())
    last = nn.Sequential(nn.Conv2d(320, 1280, 1), nn.BatchNorm2d(1280), nn.ReLU6())
    classifier = nn.Conv2d(1280, 7, 1)
    widths = [(16, 1, 1, 1), (24, 2, 2, 6), (32, 3, 2, 6), (64, 4, 2, 6), (96, 3, 1, 6), (160, 3, 2, 6), (320, 1, 1, 6)]
    state, groups, width = {}, [], 32
    for number, (outputs, depth, stride, t) in enumerate(widths, start=1):
        blocks = [tiny_block(width if i == 0 else outputs, outputs, stride if i == 0 else 1, t) for i in range(depth)]
        for i, block in enumerate(blocks):
            place = f"stage{number}." + (f"{i}." if depth > 1 else "")
            state |= {f"{place}residual.{key}": value for key, value in block.state_dict().items()}
        groups.append([(block, i > 0) for i, block in enumerate(blocks)])
        width = outputs
    for name, module in (("pre", pre), ("conv1", last), ("conv2", classifier)):
        state |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
    torch.save({"model": state, "epoch": 200}, tmp_path / "mv2.pth")
    model = create_model("mobilenetv2_tinyimagenet", num_classes=7, weights=str(tmp_path / "mv2.pth"), norm="imagenet")
    images = torch.rand(2, 3, 64, 64)
    x = model.eval().prepare(images)
    for module in (pre, last, *(block for group in groups for block, _ in group)):
        module.eval()
    with torch.no_grad():
        out, taps = model(images, need={"stages"}), []
        x = pre(x)
        for group in groups:
            for block, shortcut in group:
                x = block(x) + x if shortcut else block(x)
            taps.append(x)
        logits = classifier(F.adaptive_avg_pool2d(last(x), 1)).flatten(1)
    torch.testing.assert_close(out.logits, logits)
    for ours, theirs in zip(out.stages, (taps[1], taps[2], taps[3], taps[6]), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert [(s.channels, *s.grid) for s in model.spec.stages] == [(24, 33, 33), (32, 17, 17), (64, 9, 9), (320, 5, 5)]
