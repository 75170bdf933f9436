"""Methods that need more than stages, on real networks: one step."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from wrapped_networks import CLASSES, network
from yacs.config import CfgNode

from kdbench.data.augmentation.looks import LOOKS
from kdbench.distillers.base import Batch, DataInfo, distillers
from kdbench.errors import IncompatibleError

#: method: pairs (student, teacher) on which it is defined
RUNS = {
    "OFD": [
        *(("vgg8", "resnet20"), ("resnet20", "wrn_16_2"), ("ShuffleV2", "resnet18"), ("small_cnn", "resnet50")),
        *(("mobilenetv1", "resnet50"), ("resnet18", "mobilenetv1")),
    ],
    "REVIEWKD": [("small_cnn", "resnet20"), ("small_vit_token", "resnet18"), ("resnet20", "swin"), ("deit", "vgg8")],
    "SDD": [("resnet20", "vgg8"), ("small_vit", "convnext"), ("small_mixer", "swin"), ("efficientnet", "resnet20")],
    "SDD_DKD": [("wrn_16_2", "ShuffleV1"), ("convnext", "small_vit")],
    "CATKD": [("resnet20", "vgg8"), ("MobileNetV2", "swin"), ("small_mixer", "resnet18")],
    "PAT": [
        *(("resnet20", "small_vit_token"), ("small_vit", "resnet20"), ("vgg8", "swin"), ("small_mixer", "convnext")),
        *(("small_cnn", "small_mixer"), ("swin", "efficientnet"), ("deit", "wrn_16_2"), ("resnet20", "deit")),
    ],
    "FCFD": [("resnet20", "wrn_16_2"), ("small_cnn", "resnet20"), ("resnet18", "convnext"), ("vgg8", "MobileNetV2")],
}
REFUSED = {
    "OFD": [
        ("resnet20", "convnext"),
        ("resnet20", "ShuffleV2"),
        ("MobileNetV2", "resnet20"),
        ("small_vit", "resnet20"),
    ],
    "SDD": [("resnet20", "small_vit_token"), ("mobilenetv3", "resnet20"), ("resnet20", "deit")],
    "CATKD": [("resnet20", "small_vit_token"), ("resnet20", "convnext")],
    "FCFD": [("resnet20", "small_vit"), ("resnet20", "vgg8")],
}
SMALL = {"PAT": {"DIM": 32, "HEADS": 4}, "FCFD": {"PATHS": 4, "WARMUP": 0}, "REVIEWKD": {"WARMUP_EPOCHS": 0}}


def build(method: str, student: object, teacher: object):
    cls = distillers.get(method)
    node = CfgNode(cls.defaults)
    node.update(SMALL.get(method, {}))
    return cls(student.spec, teacher.spec, node, DataInfo(CLASSES, 16), seed=0)


def batch(size: int = 4) -> Batch:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(size, 3, 32, 32, generator=generator)
    looks = {name: images.roll(1, 3) for name in LOOKS}
    return Batch(images, torch.arange(size) % CLASSES, torch.arange(size), torch.arange(size), epoch=2, looks=looks)


def snapshot(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


@pytest.mark.parametrize(("method", "pair"), [(m, p) for m, pairs in RUNS.items() for p in pairs])
def test_one_step(method: str, pair: tuple[str, str]) -> None:
    student, teacher = network(pair[0], seed=1).train(), network(pair[1], seed=2).eval().requires_grad_(False)
    distiller = build(method, student, teacher).train()
    before = snapshot(teacher)
    for _ in range(2):  # the second step of PAT has feedback
        terms = distiller(student, distiller.taught(teacher, batch()), batch())
        assert all(term.isfinite() for term in terms.values()), terms
        torch.stack(tuple(terms.values())).sum().backward()
    touched = [p for p in student.backbone.parameters() if p.grad is not None and p.grad.abs().sum() > 0]
    assert len(touched) > len(list(student.backbone.parameters())) // 2
    assert all(p.grad is None or p.grad.isfinite().all() for p in [*student.parameters(), *distiller.parameters()])
    for name, value in snapshot(teacher).items():
        assert torch.equal(value, before[name]), name
    assert not teacher.training
    assert all(p.grad is None for p in teacher.parameters())


@pytest.mark.parametrize(("method", "pair"), [(m, p) for m, pairs in REFUSED.items() for p in pairs])
def test_undefined_pairs_are_refused(method: str, pair: tuple[str, str]) -> None:
    with pytest.raises(IncompatibleError, match=f"{method} is undefined for this pair"):
        build(method, network(pair[0]), network(pair[1]))


def test_every_term_but_the_teachers_reaches_the_student() -> None:
    student, teacher = network("resnet20", seed=1), network("resnet18", seed=2).eval().requires_grad_(False)
    for method in RUNS:
        if method == "FCFD":
            continue
        distiller = build(method, student, teacher)
        given = distiller.taught(teacher, batch())
        for name, term in distiller(student, given, batch()).items():
            if name == "reg":  # PAT's prompts against the plain teacher
                continue
            student.zero_grad()
            term.backward(retain_graph=True)
            assert student.backbone.layer1[0].conv1.weight.grad.abs().sum() > 0, (method, name)
