"""The three-stage residual networks for 32x32 images (He et al., CVPR 2016, section 4.2), plain and four times as wide.

Initialisation: He et al.'s (fan-out, ReLU) for convolutions, 1 and 0 for batch normalisation, PyTorch's default for the
classifier.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from kdbench.models.networks.cifar.blocks import BlockBackbone, ReluBlock, conv1x1, conv3x3, init_he, stage_info

WIDTHS = (16, 16, 32, 64)
WIDE_WIDTHS = (32, 64, 128, 256)


class BasicBlock(ReluBlock):
    """Two 3x3 convolutions around a shortcut, projected (1x1) where width or grid changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(inputs, outputs, stride)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = conv3x3(outputs, outputs)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(conv1x1(inputs, outputs, stride), nn.BatchNorm2d(outputs))

    def preact(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W'), before the last ReLU."""
        shortcut = x if self.downsample is None else self.downsample(x)
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return self.bn2(self.conv2(out)) + shortcut


class ResNet(BlockBackbone):
    """CIFAR residual network of depth ``6n + 2``.

    Args:
        depth: number of weighted layers.
        widths: of the stem and the three stages.
        num_classes: K.
    """

    def __init__(self, depth: int, widths: tuple[int, int, int, int], num_classes: int) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.num_classes = num_classes
        self.num_features = widths[-1]
        self.feature_info = stage_info(widths[1:], (1, 2, 4), ("layer1", "layer2", "layer3"))
        self.conv1 = conv3x3(3, widths[0])
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.layer1 = _stage(widths[0], widths[1], blocks, 1)
        self.layer2 = _stage(widths[1], widths[2], blocks, 2)
        self.layer3 = _stage(widths[2], widths[3], blocks, 2)
        self.fc = nn.Linear(widths[3], num_classes)
        init_he(self)

    def run_stem(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, widths[0], H, W)."""
        return F.relu(self.bn1(self.conv1(x)), inplace=True)

    def bn_before_relu(self, i: int) -> nn.BatchNorm2d:
        """``bn2`` of the stage's last block."""
        return self.stage(i)[-1].bn2  # type: ignore[return-value]


def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    rest = [BasicBlock(outputs, outputs, 1) for _ in range(blocks - 1)]
    return nn.Sequential(BasicBlock(inputs, outputs, stride), *rest)


def resnet8(num_classes: int = 100) -> ResNet:
    """ResNet-8, 0.08 M parameters."""
    return ResNet(8, WIDTHS, num_classes)


def resnet14(num_classes: int = 100) -> ResNet:
    """ResNet-14, 0.18 M parameters."""
    return ResNet(14, WIDTHS, num_classes)


def resnet20(num_classes: int = 100) -> ResNet:
    """ResNet-20, 0.28 M parameters."""
    return ResNet(20, WIDTHS, num_classes)


def resnet32(num_classes: int = 100) -> ResNet:
    """ResNet-32, 0.47 M parameters."""
    return ResNet(32, WIDTHS, num_classes)


def resnet44(num_classes: int = 100) -> ResNet:
    """ResNet-44, 0.67 M parameters."""
    return ResNet(44, WIDTHS, num_classes)


def resnet56(num_classes: int = 100) -> ResNet:
    """ResNet-56, 0.86 M parameters."""
    return ResNet(56, WIDTHS, num_classes)


def resnet110(num_classes: int = 100) -> ResNet:
    """ResNet-110, 1.74 M parameters."""
    return ResNet(110, WIDTHS, num_classes)


def resnet8x4(num_classes: int = 100) -> ResNet:
    """ResNet-8 with four times the width (twice in the stem), 1.23 M parameters."""
    return ResNet(8, WIDE_WIDTHS, num_classes)


def resnet32x4(num_classes: int = 100) -> ResNet:
    """ResNet-32 with four times the width (twice in the stem), 7.43 M parameters."""
    return ResNet(32, WIDE_WIDTHS, num_classes)
