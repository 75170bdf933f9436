"""MobileNetV1 as mdistiller has it for ImageNet: ReLU in the place of timm's ReLU6, and the layout of its published checkpoints."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from kdbench.models.backbone.staged import StagedBackbone

#: (channels, stride) of the depthwise separable blocks
_BLOCKS = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *((512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1)),
)
#: (first, last) entry of ``model`` of each stage; the stem is what comes before
_STAGES = ((2, 3), (4, 5), (6, 11), (12, 13))


class MobileNetV1(StagedBackbone):
    """MobileNetV1 of width 1 (Howard et al., arXiv 1704.04861), as in mdistiller@a08d46f (``models/imagenet/mobilenetv1.py``).

    Its four stages end where the release takes them, at 128, 256, 512 and 1024 channels of 1/4, 1/8, 1/16 and 1/32 of the side.
    Weights start as PyTorch initialises them.

    Args:
        num_classes: K.
    """

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        self.num_classes, self.num_features = num_classes, 1024
        parts: list[nn.Module] = [nn.Sequential(*_convolution(3, 32, 3, 2))]
        width = 32
        for channels, stride in _BLOCKS:
            deep = _convolution(width, width, 3, stride, groups=width)
            parts.append(nn.Sequential(*deep, *_convolution(width, channels, 1, 1)))
            width = channels
        self.model = nn.Sequential(*parts)
        self.fc = nn.Linear(1024, num_classes)
        self.feature_info = [
            {"num_chs": _BLOCKS[last - 1][0], "reduction": 4 * 2**i, "module": f"model.{last}"}
            for i, (_, last) in enumerate(_STAGES)
        ]

    def run_stem(self, x: Tensor) -> Tensor:
        return self.model[:2](x)

    def run_stage(self, i: int, x: Tensor) -> Tensor:
        first, last = _STAGES[i]
        return self.model[first : last + 1](x)

    def stage_with_preact(self, i: int, x: Tensor) -> tuple[Tensor, Tensor]:
        first, last = _STAGES[i]
        block: Any = self.model[last]
        before = block[:-1](self.model[first:last](x))
        return F.relu(before), before

    def bn_before_relu(self, i: int) -> nn.BatchNorm2d | None:
        return self.model[_STAGES[i][1]][-2]  # type: ignore[index, return-value]


def _convolution(inputs: int, outputs: int, size: int, stride: int, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
