"""Small networks of every family that the wrapper is tried on: name, options of ``create_model``."""

from __future__ import annotations

from typing import Any

import torch
from timm.models.convnext import ConvNeXt
from timm.models.deit import VisionTransformerDistilled
from timm.models.efficientnet import efficientnet_b0, mobilenetv1_100
from timm.models.mobilenetv3 import mobilenetv3_small_050
from timm.models.regnet import regnetx_002
from timm.models.resnet import resnet10t, resnet18, resnet50
from timm.models.swin_transformer import SwinTransformer
from timm.models.swin_transformer_v2 import SwinTransformerV2
from torch import nn

from kdbench.models.feature_model.model import FeatureModel
from kdbench.models.zoo import create_model

CLASSES = 7
_VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 5, "num_heads": 2, "num_classes": CLASSES}
_SWIN = {
    "img_size": 64,
    "patch_size": 4,
    "window_size": 4,
    "embed_dim": 16,
    "depths": (1, 1, 2, 1),
    "num_heads": (1, 2, 2, 4),
    "num_classes": CLASSES,
}

NAMED: dict[str, dict[str, Any]] = {
    "small_cnn": {"name": "small_cnn", "input_size": 32},
    "small_vit": {"name": "small_vit", "drop_path_rate": 0.5},
    "small_vit_token": {"name": "small_vit", "class_token": True, "reg_tokens": 2, "pos_drop_rate": 0.2},
    "small_vit_gap": {"name": "small_vit", "fc_norm": False},
    "small_mixer": {"name": "small_mixer"},
    "resnet20": {"name": "resnet20"},
    "wrn_16_2": {"name": "wrn_16_2", "drop_rate": 0.3},
    "vgg8": {"name": "vgg8"},
    "MobileNetV2": {"name": "MobileNetV2", "stages": [1, 2, 3, -1]},
    "ShuffleV1": {"name": "ShuffleV1"},
    "ShuffleV2": {"name": "ShuffleV2"},
}
_TIMM: dict[str, tuple[str, Any]] = {
    "resnet18": ("cnn", lambda: resnet18(num_classes=CLASSES, zero_init_last=False)),
    "resnet50": ("cnn", lambda: resnet50(num_classes=CLASSES, zero_init_last=False)),
    "resnet10t": ("cnn", lambda: resnet10t(num_classes=CLASSES, drop_rate=0.3, zero_init_last=False)),
    "convnext": ("cnn", lambda: ConvNeXt(depths=(1, 1, 2, 1), dims=(8, 16, 24, 32), num_classes=CLASSES)),
    "swin": ("vit", lambda: SwinTransformer(**_SWIN)),
    "swinv2": ("vit", lambda: SwinTransformerV2(**_SWIN)),
    "deit": ("vit", lambda: VisionTransformerDistilled(**_VIT)),
    "efficientnet": ("cnn", lambda: efficientnet_b0(num_classes=CLASSES, drop_path_rate=0.2)),
    "mobilenetv1": ("cnn", lambda: mobilenetv1_100(num_classes=CLASSES, drop_rate=0.2)),
    "mobilenetv3": ("cnn", lambda: mobilenetv3_small_050(num_classes=CLASSES)),
    "regnet": ("cnn", lambda: regnetx_002(num_classes=CLASSES)),
}
ALL = [*NAMED, *_TIMM]


def network(key: str, *, seed: int = 0) -> FeatureModel:
    """The network of that key, for 8, 32 or 64 pixel images."""
    if key in NAMED:
        model = create_model(num_classes=CLASSES, seed=seed, norm="imagenet", **NAMED[key])
        classifier = model.backbone.get_classifier()
        if not classifier.weight.any():  # timm's Mixer starts there
            torch.nn.init.normal_(classifier.weight, std=0.1, generator=torch.Generator().manual_seed(seed))
        return model
    family, build = _TIMM[key]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone: nn.Module = build()
    side = 32 if key == "deit" else 64
    return FeatureModel(backbone, name=key, family=family, num_classes=CLASSES, input_size=(side, side))
