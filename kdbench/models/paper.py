"""The networks of the tables by the names that papers give them, each with the timm or torchvision tag behind it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from kdbench.models.registry import ModelEntry, models
from kdbench.models.timm_models import create_timm

#: the smallest image for which a name shared with the 32x32 networks means the paper's network
LARGE_IMAGE = 64
#: names that mdistiller gives to 32x32 networks and papers to others
SHARED = {"ResNet18": "paper:ResNet18", "ResNet50": "paper:ResNet50", "MobileNetV2": "paper:MobileNetV2"}


@dataclass(frozen=True)
class _Paper:
    tag: str
    family: str
    size: int = 224
    fixed: bool = True
    headless: bool = False
    aliases: tuple[str, ...] = ()


def _cnn(tag: str, *, fixed: bool = False) -> _Paper:
    return _Paper(tag, "cnn", fixed=fixed)


_DINO, _SIGLIP = "vit_{}_patch14_dinov2.lvd142m", "vit_{}_patch16_siglip_{}.v2_webli"
PAPER = {
    "Swin-T": _Paper("swin_tiny_patch4_window7_224.ms_in1k", "vit"),
    "ViT-S": _Paper("vit_small_patch16_224.augreg_in21k_ft_in1k", "vit"),
    "DeiT-T": _Paper("deit_tiny_patch16_224.fb_in1k", "vit"),
    "Mixer-B/16": _Paper("mixer_b16_224.goog_in21k_ft_in1k", "mlp"),
    "ResMLP-S12": _Paper("resmlp_12_224.fb_in1k", "mlp"),
    "ConvNeXt-T": _cnn("convnext_tiny.fb_in1k"),
    "paper:ResNet18": _cnn("resnet18.a1_in1k"),
    "ResNet34": _cnn("resnet34.a1_in1k"),
    "paper:ResNet50": _cnn("resnet50.a1_in1k"),
    "MobileNetV1": _cnn("mobilenetv1_100.ra4_e3600_r224_in1k"),
    "paper:MobileNetV2": _cnn("mobilenetv2_100.ra_in1k"),
    "DINOv2 (ViT-S)": _Paper(_DINO.format("small"), "vit", headless=True, aliases=("DINOv2-ViT-S",)),
    "DINOv2 (ViT-L)": _Paper(_DINO.format("large"), "vit", headless=True, aliases=("DINOv2-ViT-L",)),
    "SigLIP2 (ViT-B)": _Paper(_SIGLIP.format("base", 224), "vit", headless=True, aliases=("SigLIP2-ViT-B",)),
    "SigLIP2 (ViT-L)": _Paper(_SIGLIP.format("large", 256), "vit", 256, headless=True, aliases=("SigLIP2-ViT-L",)),
}
#: of the tables, but without a published timm tag
OWN = ("Swin-Nano", "Swin-Pico", "ShuffleNetV2")


def register_paper_models() -> None:
    """Add the names of :data:`PAPER`, Swin-Nano, Swin-Pico and ShuffleNetV2 to the registry of models."""
    for name, paper in PAPER.items():
        entry = ModelEntry(
            name,
            functools.partial(create_timm, paper.tag, img_size=paper.size if paper.fixed else 0),
            paper.family,
            paper.size,
            any_size=not paper.fixed,
            size_option="img_size" if paper.fixed else "",
            tag=f"timm {paper.tag}",
            about="backbone without a head" if paper.headless else "",
            headless=paper.headless,
        )
        for known in (name, *paper.aliases):
            models.add(known, entry, hidden=known != name)
    for name, width in (("Swin-Nano", 64), ("Swin-Pico", 48)):
        about = f"Swin, depths 2-2-2-2, width {width}, heads 2-4-8-16; no published weights"
        _add(name, functools.partial(_swin, width), "vit", "img_size", about=about)
    _add("ShuffleNetV2", _shufflenet, "cnn", tag="torchvision shufflenet_v2_x1_0")


def _add(
    name: str, build: Callable[..., nn.Module], family: str, size_option: str = "", *, tag: str = "", about: str = ""
) -> None:
    models.add(name, ModelEntry(name, build, family, 224, not size_option, size_option, tag, about))


def _swin(width: int, *, num_classes: int, **options: Any) -> nn.Module:
    from timm.models.swin_transformer import SwinTransformer

    return SwinTransformer(
        num_classes=num_classes, embed_dim=width, depths=(2, 2, 2, 2), num_heads=(2, 4, 8, 16), **options
    )


def _shufflenet(*, num_classes: int, **options: Any) -> nn.Module:
    from kdbench.models.torchvision_models import build_torchvision

    return build_torchvision("shufflenet_v2_x1_0", num_classes=num_classes, **options)
