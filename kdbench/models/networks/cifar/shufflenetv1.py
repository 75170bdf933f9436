"""ShuffleNet with three groups for 32x32 images (Zhang et al., CVPR 2018); initialisation: PyTorch's default.

As distillation papers use it: a 1x1 stem that keeps the grid, and a ReLU after the depthwise convolution too.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdbench.models.networks.cifar.blocks import BlockBackbone, ReluBlock, channel_shuffle, conv1x1, conv3x3, stage_info

STEM = 24
WIDTHS = (240, 480, 960)
DEPTHS = (4, 8, 4)
GROUPS = 3


class Bottleneck(ReluBlock):
    """Grouped 1x1, shuffle, depthwise 3x3, grouped 1x1; with stride 2 the pooled input is concatenated, else added."""

    def __init__(self, inputs: int, outputs: int, stride: int, groups: int) -> None:
        super().__init__()
        width = outputs // 4
        self.stride = stride
        # the stem is too narrow to be cut into groups
        self.first_groups = 1 if inputs == STEM else groups
        self.conv1 = conv1x1(inputs, width, groups=self.first_groups)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width, stride, groups=width)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = conv1x1(width, outputs, groups=groups)
        self.bn3 = nn.BatchNorm2d(outputs)

    def preact(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W'), before the last ReLU."""
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = channel_shuffle(out, self.first_groups)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        out = self.bn3(self.conv3(out))
        if self.stride == 1:
            return out + x
        return torch.cat([out, F.avg_pool2d(x, 3, stride=2, padding=1)], 1)


class ShuffleNetV1(BlockBackbone):
    """ShuffleNet, g = 3.

    Args:
        num_classes: K.
    """

    classifier_name = "linear"

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.num_features = WIDTHS[-1]
        self.feature_info = stage_info(WIDTHS, (2, 4, 8), ("layer1", "layer2", "layer3"))
        self.conv1 = conv1x1(3, STEM)
        self.bn1 = nn.BatchNorm2d(STEM)
        self.layer1 = _stage(STEM, WIDTHS[0], DEPTHS[0])
        self.layer2 = _stage(WIDTHS[0], WIDTHS[1], DEPTHS[1])
        self.layer3 = _stage(WIDTHS[1], WIDTHS[2], DEPTHS[2])
        self.linear = nn.Linear(WIDTHS[2], num_classes)

    def run_stem(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 24, H, W)."""
        return F.relu(self.bn1(self.conv1(x)), inplace=True)

    def bn_before_relu(self, i: int) -> nn.BatchNorm2d:
        """``bn3`` of the stage's last block, which is a residual one."""
        return self.stage(i)[-1].bn3  # type: ignore[return-value]


def _stage(inputs: int, outputs: int, depth: int) -> nn.Sequential:
    # the first block's own convolutions give the channels that the concatenated shortcut does not
    first = Bottleneck(inputs, outputs - inputs, 2, GROUPS)
    return nn.Sequential(first, *[Bottleneck(outputs, outputs, 1, GROUPS) for _ in range(depth - 1)])


def ShuffleV1(num_classes: int = 100) -> ShuffleNetV1:  # noqa: N802 - the field's name
    """ShuffleNet (g = 3) for 32x32 images, 0.95 M parameters."""
    return ShuffleNetV1(num_classes)
