"""VGG with batch normalisation for 32x32 images (Simonyan & Zisserman, ICLR 2015), and its one-layer-a-block form VGG8.

Initialisation: convolutions from N(0, 2 / (k * k * outputs)) with zero bias, 1 and 0 for batch normalisation,
classifier weights from N(0, 0.01^2) and its bias zero.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from kdbench.models.backbone.staged import StagedBackbone
from kdbench.models.networks.cifar.blocks import init_he, stage_info

WIDTHS = (64, 128, 256, 512, 512)


class VGG(StagedBackbone):
    """Five blocks of 3x3 convolutions; the first is the stem, the others the stages.

    The grid is halved before blocks 1, 2 and 3, and before block 4 as long as the map is at least 8 wide and high: a
    32x32 image keeps a 4x4 map in both last blocks, an image of 64x64 or more is halved once more.

    Args:
        depths: convolutions of each block.
        num_classes: K.
    """

    classifier_name = "classifier"

    def __init__(self, depths: tuple[int, int, int, int, int], num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.num_features = WIDTHS[-1]
        self.feature_info = stage_info(WIDTHS[1:], (2, 4, 8, 8), ("block1", "block2", "block3", "block4"))
        self.block0 = _block(3, WIDTHS[0], depths[0])
        self.block1 = _block(WIDTHS[0], WIDTHS[1], depths[1])
        self.block2 = _block(WIDTHS[1], WIDTHS[2], depths[2])
        self.block3 = _block(WIDTHS[2], WIDTHS[3], depths[3])
        self.block4 = _block(WIDTHS[3], WIDTHS[4], depths[4])
        self.classifier = nn.Linear(WIDTHS[4], num_classes)
        init_he(self, linear_std=0.01, zero_linear_bias=True)

    def stage(self, i: int) -> nn.Sequential:
        """Block ``i + 1``, which ends in a batch normalisation."""
        return getattr(self, self.feature_info[i]["module"])

    def run_stem(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 64, H, W)."""
        return F.relu(self.block0(x))

    def run_stage(self, i: int, x: Tensor) -> Tensor:
        """Output of stage ``i``."""
        return F.relu(self.stage(i)(_shrink(i, x)))

    def stage_with_preact(self, i: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """Stage ``i``: ``(relu(pre), pre)``."""
        pre = self.stage(i)(_shrink(i, x))
        return F.relu(pre), pre

    def bn_before_relu(self, i: int) -> nn.BatchNorm2d:
        """The batch normalisation of the block's last convolution."""
        return self.stage(i)[-1]  # type: ignore[return-value]


def _shrink(i: int, x: Tensor) -> Tensor:
    return F.max_pool2d(x, 2) if i < 3 or min(x.shape[-2:]) >= 8 else x


def _block(inputs: int, outputs: int, depth: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for number in range(depth):
        conv = nn.Conv2d(inputs if number == 0 else outputs, outputs, 3, padding=1)
        layers += [conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
    # the last activation is the stage's own, so that the map before it can be read
    return nn.Sequential(*layers[:-1])


def vgg8(num_classes: int = 100) -> VGG:
    """VGG-8, 3.97 M parameters."""
    return VGG((1, 1, 1, 1, 1), num_classes)


def vgg11(num_classes: int = 100) -> VGG:
    """VGG-11, 9.28 M parameters."""
    return VGG((1, 1, 2, 2, 2), num_classes)


def vgg13(num_classes: int = 100) -> VGG:
    """VGG-13, 9.46 M parameters."""
    return VGG((2, 2, 2, 2, 2), num_classes)


def vgg16(num_classes: int = 100) -> VGG:
    """VGG-16, 14.8 M parameters."""
    return VGG((2, 2, 3, 3, 3), num_classes)


def vgg19(num_classes: int = 100) -> VGG:
    """VGG-19, 20.1 M parameters."""
    return VGG((2, 2, 4, 4, 4), num_classes)
