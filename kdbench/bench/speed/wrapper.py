"""The wrapper's cost: normalising + a FeatureModel's forward, with and without stages, against the bare backbone's."""

from __future__ import annotations

from typing import Any

import torch

from kdbench.bench.speed.timing import interleave, milliseconds, ratio
from kdbench.models.zoo import create_model

MODELS = (
    "timm:resnet18",
    "timm:vit_small_patch16_224",
    "timm:mixer_s16_224",
    "timm:swin_tiny_patch4_window7_224",
    "timm:mobilenetv2_100",
)


def run(names: tuple[str, ...] = MODELS, batch: int = 4, rounds: int = 31) -> list[dict[str, Any]]:
    """Rows ``model, ms, x backbone (logits), x backbone (stages)``, in evaluation mode under ``no_grad``."""
    rows = []
    for name in names:
        model = create_model(name, num_classes=100, seed=0, norm="imagenet").eval()
        images = torch.rand(batch, 3, *model.input_size)
        with torch.no_grad():
            # The bare network is fed the very values that the wrapper feeds it: max-pooling's time depends on them (2% of
            # ResNet18's forward between raw and normalised noise).
            normalised = model.prepare(images).clone()
            seconds = interleave(
                {
                    "bare": lambda m=model, x=normalised: m.backbone(x),  # type: ignore[misc]
                    "logits": lambda m=model, x=images: m(x),  # type: ignore[misc]
                    "stages": lambda m=model, x=images: m(x, need={"stages"}),  # type: ignore[misc]
                },
                rounds=rounds,
            )
        row = {"model": name, "backbone ms": round(milliseconds(seconds, "bare"), 1)}
        rows.append(row | {f"x {kind}": round(ratio(seconds, kind, "bare"), 3) for kind in ("logits", "stages")})
    return rows
