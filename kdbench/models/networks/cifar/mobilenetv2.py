"""MobileNetV2 of half width for 32x32 images (Sandler et al., CVPR 2018).

As distillation papers use it: ReLU instead of ReLU6, an expansion layer in every block, the second group unstrided.
Initialisation: convolutions from N(0, 2 / (k * k * outputs)), 1 and 0 for batch normalisation, classifier weights from
N(0, 0.01^2) and its bias zero.
"""

from __future__ import annotations

from torch import Tensor, nn

from kdbench.models.backbone.staged import StagedBackbone
from kdbench.models.networks.cifar.blocks import conv1x1, conv3x3, init_he, stage_info

#: expansion, width before the width factor, blocks, stride of the first one
GROUPS = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
#: a stage is all groups up to one whose grid or width the field taps
STAGES = ((0, 1), (2,), (3, 4), (5, 6))
LAST_WIDTH = 1280


class InvertedResidual(nn.Module):
    """Expand (1x1), filter (3x3 depthwise), project (1x1, linear); with a shortcut where shape allows."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = inputs * expansion
        self.use_shortcut = stride == 1 and inputs == outputs
        self.conv = nn.Sequential(
            conv1x1(inputs, width),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            conv3x3(width, width, stride, groups=width),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            conv1x1(width, outputs),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W')."""
        return x + self.conv(x) if self.use_shortcut else self.conv(x)


class MobileNetV2(StagedBackbone):
    """Half-width MobileNetV2, 0.81 M parameters; its stages end in linear bottlenecks, so none has a last activation.

    Args:
        num_classes: K.
        width: factor on the widths of the groups; the last layer keeps 1280.
    """

    classifier_name = "classifier.0"
    has_preact = False

    def __init__(self, num_classes: int = 100, width: float = 0.5) -> None:
        super().__init__()
        widths = [int(group[1] * width) for group in GROUPS]
        stem = int(32 * width)
        last = [groups[-1] for groups in STAGES]
        self.num_classes = num_classes
        self.num_features = LAST_WIDTH
        self.feature_info = stage_info([widths[j] for j in last], (2, 4, 8, 16), [f"blocks.{j}" for j in last])
        self.conv1 = nn.Sequential(conv3x3(3, stem, 2), nn.BatchNorm2d(stem), nn.ReLU(inplace=True))
        self.blocks = nn.ModuleList()
        inputs = stem
        for (expansion, _, depth, stride), outputs in zip(GROUPS, widths, strict=True):
            first = InvertedResidual(inputs, outputs, stride, expansion)
            rest = [InvertedResidual(outputs, outputs, 1, expansion) for _ in range(depth - 1)]
            self.blocks.append(nn.Sequential(first, *rest))
            inputs = outputs
        self.conv2 = nn.Sequential(conv1x1(inputs, LAST_WIDTH), nn.BatchNorm2d(LAST_WIDTH), nn.ReLU(inplace=True))
        self.classifier = nn.Sequential(nn.Linear(LAST_WIDTH, num_classes))
        init_he(self, linear_std=0.01, zero_linear_bias=True)

    def run_stem(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 16, H/2, W/2)."""
        return self.conv1(x)

    def run_stage(self, i: int, x: Tensor) -> Tensor:
        """Output of stage ``i``."""
        for j in STAGES[i]:
            x = self.blocks[j](x)
        return x

    def stage_with_preact(self, i: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """Stage ``i``: its output, twice."""
        x = self.run_stage(i, x)
        return x, x

    def run_tail(self, x: Tensor) -> Tensor:
        """The last 1x1 convolution: (B, 160, H, W) -> (B, 1280, H, W)."""
        return self.conv2(x)
