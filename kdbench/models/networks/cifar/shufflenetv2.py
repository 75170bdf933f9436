"""ShuffleNetV2 1x for 32x32 images (Ma et al., ECCV 2018), with a 1x1 stem; initialisation: PyTorch's default."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdbench.models.networks.cifar.blocks import BlockBackbone, ReluBlock, channel_shuffle, conv1x1, conv3x3, stage_info

STEM = 24
WIDTHS = (116, 232, 464)
DEPTHS = (3, 7, 3)
LAST_WIDTH = 1024


class BasicBlock(ReluBlock):
    """Half of the channels pass, the other half is convolved; then the halves are shuffled.

    The passing half comes out of earlier ReLUs, so one ReLU over all channels leaves it as it is.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        width = channels // 2
        self.conv1 = conv1x1(width, width)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width, groups=width)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = conv1x1(width, width)
        self.bn3 = nn.BatchNorm2d(width)

    def preact(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W), before the last ReLU."""
        passing, out = x.chunk(2, 1)
        out = F.relu(self.bn1(self.conv1(out)), inplace=True)
        out = self.bn3(self.conv3(self.bn2(self.conv2(out))))
        return channel_shuffle(torch.cat([passing, out], 1), 2)


class DownBlock(ReluBlock):
    """Two convolved branches of stride 2, concatenated and shuffled."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        width = outputs // 2
        self.conv1 = conv3x3(inputs, inputs, 2, groups=inputs)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv2 = conv1x1(inputs, width)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = conv1x1(inputs, width)
        self.bn3 = nn.BatchNorm2d(width)
        self.conv4 = conv3x3(width, width, 2, groups=width)
        self.bn4 = nn.BatchNorm2d(width)
        self.conv5 = conv1x1(width, width)
        self.bn5 = nn.BatchNorm2d(width)

    def preact(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H/2, W/2), before the last ReLU."""
        left = self.bn2(self.conv2(self.bn1(self.conv1(x))))
        right = F.relu(self.bn3(self.conv3(x)), inplace=True)
        right = self.bn5(self.conv5(self.bn4(self.conv4(right))))
        return channel_shuffle(torch.cat([left, right], 1), 2)


class ShuffleNetV2(BlockBackbone):
    """ShuffleNetV2 1x.

    No single batch normalisation stands before a stage's last activation: half of the channels skip the last block.

    Args:
        num_classes: K.
    """

    classifier_name = "linear"

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.num_features = LAST_WIDTH
        self.feature_info = stage_info(WIDTHS, (2, 4, 8), ("layer1", "layer2", "layer3"))
        self.conv1 = conv1x1(3, STEM)
        self.bn1 = nn.BatchNorm2d(STEM)
        self.layer1 = _stage(STEM, WIDTHS[0], DEPTHS[0])
        self.layer2 = _stage(WIDTHS[0], WIDTHS[1], DEPTHS[1])
        self.layer3 = _stage(WIDTHS[1], WIDTHS[2], DEPTHS[2])
        self.conv2 = conv1x1(WIDTHS[2], LAST_WIDTH)
        self.bn2 = nn.BatchNorm2d(LAST_WIDTH)
        self.linear = nn.Linear(LAST_WIDTH, num_classes)

    def run_stem(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 24, H, W)."""
        return F.relu(self.bn1(self.conv1(x)), inplace=True)

    def run_tail(self, x: Tensor) -> Tensor:
        """The last 1x1 convolution: (B, 464, H, W) -> (B, 1024, H, W)."""
        return F.relu(self.bn2(self.conv2(x)), inplace=True)


def _stage(inputs: int, outputs: int, depth: int) -> nn.Sequential:
    return nn.Sequential(DownBlock(inputs, outputs), *[BasicBlock(outputs) for _ in range(depth)])


def ShuffleV2(num_classes: int = 100) -> ShuffleNetV2:  # noqa: N802 - the field's name
    """ShuffleNetV2 1x for 32x32 images, 1.36 M parameters."""
    return ShuffleNetV2(num_classes)
