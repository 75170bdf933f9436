"""Operations of a forward pass: what the papers print, and what arithmetic says."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kdbench.models.feature_model.flops import forward_flops
from kdbench.models.zoo import create_model


@pytest.mark.parametrize(
    ("name", "giga"),  # multiply-adds at 224 as timm's model cards and the networks' papers state them
    [("paper:ResNet18", 1.82), ("paper:MobileNetV2", 0.31), ("Swin-T", 4.5), ("ViT-S", 4.6), ("Mixer-B/16", 12.6)],
)
def test_published_multiply_adds(name: str, giga: float) -> None:
    with torch.device("meta"):
        model = create_model(name, num_classes=1000, input_size=224)
    flops = forward_flops(model.backbone, model.input_size)
    assert flops is not None
    assert flops / 2e9 == pytest.approx(giga, rel=0.03)


def test_by_hand_and_without_a_trace() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 5, 3, padding=1, bias=False), nn.BatchNorm2d(5), nn.Flatten(), nn.Linear(320, 7)
    )
    before = {key: value.clone() for key, value in network.state_dict().items()}
    network[1].eval()
    assert forward_flops(network, (8, 8)) == 2 * (27 * 5 * 64 + 320 * 7)
    assert [module.training for module in network.modules()] == [True, True, False, True, True]
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_a_network_that_reads_values_has_no_count() -> None:
    class Reads(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * x.mean().item()

    assert forward_flops(Reads(), (4, 4)) is None
