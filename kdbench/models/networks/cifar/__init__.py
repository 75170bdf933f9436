"""mdistiller's networks for 32x32 images, with the layout of its checkpoints.

Rooms:

- blocks: What the 32x32 networks share: blocks that end in a ReLU, their stages, and the weight initialisation.
- mobilenetv2: MobileNetV2 of half width for 32x32 images (Sandler et al., CVPR 2018).
- resnet: The three-stage residual networks for 32x32 images (He et al., CVPR 2016, section 4.2), plain and four times as
  wide.
- resnetv2: ResNet-18 and ResNet-50 (He et al., CVPR 2016) with a 3x3 stem that keeps the grid, for 32x32 images.
- shufflenetv1: ShuffleNet with three groups for 32x32 images (Zhang et al., CVPR 2018); initialisation: PyTorch's default.
- shufflenetv2: ShuffleNetV2 1x for 32x32 images (Ma et al., ECCV 2018), with a 1x1 stem; initialisation: PyTorch's default.
- vgg: VGG with batch normalisation for 32x32 images (Simonyan & Zisserman, ICLR 2015), and its one-layer-a-block form VGG8.
- wrn: Wide residual networks for 32x32 images (Zagoruyko & Komodakis, BMVC 2016).

They may import models/backbone.
"""

from __future__ import annotations

from collections.abc import Callable

from kdbench.models.backbone.staged import StagedBackbone
from kdbench.models.networks.cifar.mobilenetv2 import MobileNetV2
from kdbench.models.networks.cifar.resnet import (
    resnet8,
    resnet8x4,
    resnet14,
    resnet20,
    resnet32,
    resnet32x4,
    resnet44,
    resnet56,
    resnet110,
)
from kdbench.models.networks.cifar.resnetv2 import ResNet18, ResNet50
from kdbench.models.networks.cifar.shufflenetv1 import ShuffleV1
from kdbench.models.networks.cifar.shufflenetv2 import ShuffleV2
from kdbench.models.networks.cifar.vgg import vgg8, vgg11, vgg13, vgg16, vgg19
from kdbench.models.networks.cifar.wrn import wrn_16_1, wrn_16_2, wrn_40_1, wrn_40_2

#: name -> builder, which takes ``num_classes`` (and ``drop_rate``, if it is a WRN)
CIFAR_MODELS: dict[str, Callable[..., StagedBackbone]] = {
    "resnet8": resnet8,
    "resnet14": resnet14,
    "resnet20": resnet20,
    "resnet32": resnet32,
    "resnet44": resnet44,
    "resnet56": resnet56,
    "resnet110": resnet110,
    "resnet8x4": resnet8x4,
    "resnet32x4": resnet32x4,
    "wrn_16_1": wrn_16_1,
    "wrn_16_2": wrn_16_2,
    "wrn_40_1": wrn_40_1,
    "wrn_40_2": wrn_40_2,
    "vgg8": vgg8,
    "vgg11": vgg11,
    "vgg13": vgg13,
    "vgg16": vgg16,
    "vgg19": vgg19,
    "MobileNetV2": MobileNetV2,
    "ShuffleV1": ShuffleV1,
    "ShuffleV2": ShuffleV2,
    "ResNet18": ResNet18,
    "ResNet50": ResNet50,
}

__all__ = ["CIFAR_MODELS", *CIFAR_MODELS]
