"""MobileNetV2 as mdistiller has it for the 64x64 images of Tiny-ImageNet: full width, with a stem that keeps the grid."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from kdbench.models.backbone.staged import StagedBackbone

#: expansion, width, blocks and stride of the first one of each group
_GROUPS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
#: (first, last) group of each stage, counted from 1 as the release names them
_STAGES = ((1, 2), (3, 3), (4, 4), (5, 7))
_STEM, _LAST = 32, 1280


class LinearBottleneck(nn.Module):
    """Expand (1x1), filter (3x3 depthwise), project (1x1, linear), each with a bias; with a shortcut where shape allows."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = inputs * expansion
        self.shortcut = stride == 1 and inputs == outputs
        self.residual = nn.Sequential(
            *_convolution(inputs, width, 1),
            *_convolution(width, width, 3, stride=stride, padding=1, groups=width),
            nn.Conv2d(width, outputs, 1),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W')."""
        made: Tensor = self.residual(x)
        return made + x if self.shortcut else made


class MobileNetV2Tiny(StagedBackbone):
    """MobileNetV2 (Sandler et al., CVPR 2018) for 64x64 images, ``MobileNetV2`` among mdistiller's networks of Tiny-ImageNet
    (mdistiller@a08d46f, ``models/cifar/mv2_tinyimagenet.py``).

    Its four stages end in linear bottlenecks of 24, 32, 64 and 320 channels; the release taps the first three, and the 1280
    channels behind the last one. Its classifier is a 1x1 convolution of the pooled map there and a linear layer, which is the
    same function, here; a state dict of the release is read all the same. Weights start as PyTorch initialises them.

    Args:
        num_classes: K.
    """

    classifier_name = "conv2"
    has_preact = False

    def __init__(self, num_classes: int = 200) -> None:
        super().__init__()
        self.num_classes, self.num_features = num_classes, _LAST
        self.pre = nn.Sequential(*_convolution(3, _STEM, 1, padding=1))
        width = _STEM
        for number, (expansion, outputs, depth, stride) in enumerate(_GROUPS, start=1):
            blocks = [LinearBottleneck(width, outputs, stride, expansion)]
            blocks += [LinearBottleneck(outputs, outputs, 1, expansion) for _ in range(depth - 1)]
            self.add_module(f"stage{number}", blocks[0] if depth == 1 else nn.Sequential(*blocks))
            width = outputs
        self.conv1 = nn.Sequential(*_convolution(width, _LAST, 1))
        self.conv2 = nn.Linear(_LAST, num_classes)
        self.feature_info = [
            {"num_chs": _GROUPS[last - 1][1], "reduction": 2 ** (i + 1), "module": f"stage{last}"}
            for i, (_, last) in enumerate(_STAGES)
        ]

    def run_stem(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 32, H + 2, W + 2): the release pads its 1x1 convolution."""
        made: Tensor = self.pre(x)
        return made

    def run_stage(self, i: int, x: Tensor) -> Tensor:
        """Output of stage ``i``."""
        first, last = _STAGES[i]
        for number in range(first, last + 1):
            x = self.get_submodule(f"stage{number}")(x)
        return x

    def stage_with_preact(self, i: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """Stage ``i``: its output, twice."""
        x = self.run_stage(i, x)
        return x, x

    def run_tail(self, x: Tensor) -> Tensor:
        """The last 1x1 convolution: (B, 320, H, W) -> (B, 1280, H, W)."""
        made: Tensor = self.conv1(x)
        return made


def _convolution(inputs: int, outputs: int, size: int, **options: Any) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, size, **options), nn.BatchNorm2d(outputs), nn.ReLU6(inplace=True)]
