"""ResNet-18 and ResNet-50 (He et al., CVPR 2016) with a 3x3 stem that keeps the grid, for 32x32 images.

The file's name is the one that the field gave to this form; the blocks are those of the first paper.
Initialisation: He et al.'s (fan-out, ReLU) for convolutions, 1 and 0 for batch normalisation, PyTorch's default for the
classifier.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from kdbench.models.networks.cifar.blocks import BlockBackbone, ReluBlock, conv1x1, conv3x3, init_he, stage_info


class BasicBlock(ReluBlock):
    """Two 3x3 convolutions around a shortcut."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(inputs, width, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = _shortcut(inputs, width, stride)

    @property
    def last_bn(self) -> nn.BatchNorm2d:
        """The batch normalisation before the sum."""
        return self.bn2

    def preact(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W'), before the last ReLU."""
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return self.bn2(self.conv2(out)) + self.shortcut(x)


class Bottleneck(ReluBlock):
    """1x1, 3x3 (strided) and 1x1 convolution around a shortcut; four times as wide outside as inside."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = conv1x1(inputs, width)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = conv1x1(width, outputs)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.shortcut = _shortcut(inputs, outputs, stride)

    @property
    def last_bn(self) -> nn.BatchNorm2d:
        """The batch normalisation before the sum."""
        return self.bn3

    def preact(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W'), before the last ReLU."""
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        return self.bn3(self.conv3(out)) + self.shortcut(x)


class ResNetV2(BlockBackbone):
    """Four-stage residual network with a 3x3 stem.

    Args:
        block: :class:`BasicBlock` or :class:`Bottleneck`.
        depths: blocks of each stage.
        num_classes: K.
    """

    classifier_name = "linear"

    def __init__(
        self, block: type[BasicBlock] | type[Bottleneck], depths: tuple[int, int, int, int], num_classes: int
    ) -> None:
        super().__init__()
        outputs = [width * block.expansion for width in (64, 128, 256, 512)]
        self.num_classes = num_classes
        self.num_features = outputs[-1]
        self.feature_info = stage_info(outputs, (1, 2, 4, 8), ("layer1", "layer2", "layer3", "layer4"))
        self.conv1 = conv3x3(3, 64)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = _stage(block, 64, 64, depths[0], 1)
        self.layer2 = _stage(block, outputs[0], 128, depths[1], 2)
        self.layer3 = _stage(block, outputs[1], 256, depths[2], 2)
        self.layer4 = _stage(block, outputs[2], 512, depths[3], 2)
        self.linear = nn.Linear(outputs[3], num_classes)
        init_he(self)

    def run_stem(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 64, H, W)."""
        return F.relu(self.bn1(self.conv1(x)), inplace=True)

    def bn_before_relu(self, i: int) -> nn.BatchNorm2d:
        """``bn2`` (ResNet18) or ``bn3`` (ResNet50) of the stage's last block."""
        return self.stage(i)[-1].last_bn  # type: ignore[return-value]


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    if stride == 1 and inputs == outputs:
        return nn.Sequential()
    return nn.Sequential(conv1x1(inputs, outputs, stride), nn.BatchNorm2d(outputs))


def _stage(
    block: type[BasicBlock] | type[Bottleneck], inputs: int, width: int, depth: int, stride: int
) -> nn.Sequential:
    rest = [block(width * block.expansion, width, 1) for _ in range(depth - 1)]
    return nn.Sequential(block(inputs, width, stride), *rest)


def ResNet18(num_classes: int = 100) -> ResNetV2:  # noqa: N802 - the field's name
    """ResNet-18 for 32x32 images, 11.2 M parameters."""
    return ResNetV2(BasicBlock, (2, 2, 2, 2), num_classes)


def ResNet50(num_classes: int = 100) -> ResNetV2:  # noqa: N802 - the field's name
    """ResNet-50 for 32x32 images, 23.7 M parameters."""
    return ResNetV2(Bottleneck, (3, 4, 6, 3), num_classes)
