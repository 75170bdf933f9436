"""HCD's networks: from a student's stage to a vector, and from both vectors to sub-logits (Xu et al., AAAI 2026)."""

from __future__ import annotations

from torch import nn


class ConvProjector(nn.Sequential):
    """Eq. 2: two Conv3x3-BN-ReLU blocks, C -> m -> m channels, then mean pooling: (B, C, H, W) -> (B, m)."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        layers: list[nn.Module] = []
        for c_in in (channels, width):
            layers += [
                nn.Conv2d(c_in, width, 3, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


class ComplementaryFeatureMapper(nn.Sequential):
    """Eqs. 3-5: [student vector, teacher vector] -> hidden -> n sub-logits: (B, m + d) -> (B, n, K)."""

    def __init__(self, width: int, hidden: int, n: int, classes: int) -> None:
        super().__init__(
            nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, n * classes), nn.Unflatten(1, (n, classes))
        )
