"""The networks of the tables, built by the names that papers give them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from torch import nn

from kdbench.models.networks.mobilenetv1 import MobileNetV1
from kdbench.models.networks.paper_names import PAPER
from kdbench.models.networks.timm_networks import create_timm
from kdbench.models.registry import ModelEntry, models


def register_paper_models() -> None:
    """Add the names of :data:`PAPER` and :data:`OWN` to the registry of models."""
    for name, paper in PAPER.items():
        options = {"zero_init_last": False} if paper.plain_residuals else {}
        about = "mdistiller's for ImageNet: residual blocks start plain" if paper.plain_residuals else ""
        entry = ModelEntry(
            name,
            functools.partial(create_timm, paper.tag, img_size=paper.size if paper.fixed else 0, **options),
            paper.family,
            paper.size,
            any_size=not paper.fixed,
            size_option="img_size" if paper.fixed else "",
            tag=f"timm {paper.tag}",
            about="backbone without a head" if paper.headless else about,
            headless=paper.headless,
        )
        for known in (name, *paper.aliases):
            models.add(known, entry, hidden=known != name)
    for name, width in (("Swin-Nano", 64), ("Swin-Pico", 48)):
        about = f"Swin, depths 2-2-2-2, width {width}, heads 2-4-8-16; no published weights"
        released = (
            f"{name.lower().replace('-', '_')}_patch4_window7_224"  # OFAKD@18476ce, custom_model/swin_transformer.py
        )
        _add(name, functools.partial(_swin, width), "vit", "img_size", about=about, alias=released)
    _add("ShuffleNetV2", _shufflenet, "cnn", tag="torchvision shufflenet_v2_x1_0")
    about = "mdistiller's for ImageNet, with ReLU; no published weights"
    entry = ModelEntry("MobileNetV1", MobileNetV1, "cnn", 224, about=about, revision="mdistiller@a08d46f")
    models.add("MobileNetV1", entry)


def _add(
    name: str,
    build: Callable[..., nn.Module],
    family: str,
    size_option: str = "",
    *,
    tag: str = "",
    about: str = "",
    alias: str = "",
) -> None:
    entry = ModelEntry(name, build, family, 224, not size_option, size_option, tag, about)
    for known in (name, *filter(None, [alias])):
        models.add(known, entry, hidden=known != name)


def _swin(width: int, *, num_classes: int, **options: Any) -> nn.Module:
    from timm.models.swin_transformer import SwinTransformer

    return SwinTransformer(
        num_classes=num_classes, embed_dim=width, depths=(2, 2, 2, 2), num_heads=(2, 4, 8, 16), **options
    )


def _shufflenet(*, num_classes: int, **options: Any) -> nn.Module:
    from kdbench.models.networks.torchvision_networks import build_torchvision

    return build_torchvision("shufflenet_v2_x1_0", num_classes=num_classes, **options)
