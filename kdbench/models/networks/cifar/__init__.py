"""The small networks for 32x32 images that distillation papers share, by the names that mdistiller gave them.

Their state dicts have the layout of the published checkpoints.
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
