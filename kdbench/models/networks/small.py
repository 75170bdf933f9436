"""Small networks for 8x8 to 32x32 images: a ViT and a Mixer from timm's classes, and a CNN.

Their defaults train in seconds on one core; width, depth and patch are options.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from kdbench.models.backbone.staged import StagedBackbone


class SmallCNN(StagedBackbone):
    """Three stages of 3x3 convolution, batch normalisation and ReLU, each after the first at half the resolution.

    Args:
        num_classes: K.
        widths: channels of the stages.
        drop_rate: dropout before the classifier.
        first_stride: 1 or 2, of the first stage. With 2 every stage has half the height and width, and a quarter of the cost.
    """

    def __init__(
        self, num_classes: int, widths: tuple[int, ...] = (8, 16, 32), drop_rate: float = 0.0, first_stride: int = 1
    ) -> None:
        super().__init__()
        self.num_classes, self.num_features = num_classes, widths[-1]
        self.stages = nn.ModuleList()
        previous = 3
        for i, width in enumerate(widths):
            stride = first_stride if i == 0 else 2
            self.stages.append(
                nn.Sequential(
                    nn.Conv2d(previous, width, 3, stride=stride, padding=1, bias=False),
                    nn.BatchNorm2d(width),
                    nn.ReLU(),
                )
            )
            previous = width
        self.feature_info = [
            {"num_chs": width, "reduction": first_stride * 2**i, "module": f"stages.{i}"}
            for i, width in enumerate(widths)
        ]
        self.dropout = nn.Dropout(drop_rate)
        self.fc = nn.Linear(previous, num_classes)

    def run_stem(self, x: Tensor) -> Tensor:
        return x

    def stage_with_preact(self, i: int, x: Tensor) -> tuple[Tensor, Tensor]:
        stage: Any = self.stages[i]
        before = stage[1](stage[0](x))
        return stage[2](before), before

    def bn_before_relu(self, i: int) -> nn.BatchNorm2d | None:
        return self.stages[i][1]  # type: ignore[index, return-value]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        x = self.dropout(super().forward_head(x, pre_logits=True))
        return x if pre_logits else self.fc(x)


def small_cnn(
    num_classes: int, widths: Sequence[int] = (8, 16, 32), drop_rate: float = 0.0, first_stride: int = 1
) -> nn.Module:
    """A three-stage CNN, 8-16-32 channels."""
    if first_stride not in (1, 2):
        raise ValueError(f"first_stride expects 1 or 2, got {first_stride!r}")
    if isinstance(widths, str) or not all(isinstance(width, int) and width > 0 for width in widths) or not widths:
        raise ValueError(f"widths expects whole numbers from 1, got {widths!r}")
    return SmallCNN(num_classes, tuple(widths), drop_rate, first_stride)


def small_vit(
    num_classes: int,
    img_size: int = 8,
    patch_size: int = 2,
    dim: int = 64,
    depth: int = 3,
    heads: int = 4,
    **options: Any,
) -> nn.Module:
    """timm's VisionTransformer at ``dim`` width, mean pooling (``class_token=True`` for a class token).

    ``distilled=True`` adds a distillation token, with a classifier of its own, to the class token's."""
    from timm.models.deit import VisionTransformerDistilled
    from timm.models.vision_transformer import VisionTransformer

    distilled = bool(options.pop("distilled", False))
    token = bool(options.pop("class_token", distilled))
    return (VisionTransformerDistilled if distilled else VisionTransformer)(
        img_size=img_size,
        patch_size=patch_size,
        num_classes=num_classes,
        embed_dim=dim,
        depth=depth,
        num_heads=heads,
        class_token=token,
        global_pool="token" if token else "avg",
        **options,
    )


def small_mixer(
    num_classes: int, img_size: int = 8, patch_size: int = 2, dim: int = 64, depth: int = 3, **options: Any
) -> nn.Module:
    """timm's MlpMixer at ``dim`` width."""
    from timm.models.mlp_mixer import MlpMixer

    return MlpMixer(
        num_classes=num_classes, img_size=img_size, patch_size=patch_size, embed_dim=dim, num_blocks=depth, **options
    )


def small_cnn28(
    num_classes: int, widths: Sequence[int] = (16, 32, 64), drop_rate: float = 0.0, first_stride: int = 1
) -> nn.Module:
    """small_cnn at 16-32-64 channels, for 28x28 images."""
    return small_cnn(num_classes, widths, drop_rate, first_stride)


def small_vit28(num_classes: int, img_size: int = 28, patch_size: int = 4, depth: int = 4, **options: Any) -> nn.Module:
    """small_vit with four blocks on 7x7 patches of 28x28 images."""
    return small_vit(num_classes, img_size=img_size, patch_size=patch_size, depth=depth, **options)


def small_mixer28(
    num_classes: int, img_size: int = 28, patch_size: int = 4, depth: int = 4, **options: Any
) -> nn.Module:
    """small_mixer with four blocks on 7x7 patches of 28x28 images."""
    return small_mixer(num_classes, img_size=img_size, patch_size=patch_size, depth=depth, **options)
