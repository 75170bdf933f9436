"""The branches that lead from a student's stage to a vector (Hao et al., NeurIPS 2023, Fig. 3; OFAKD@f7bb896)."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdbench.models.spec import StageSpec

_TARGET_GRID = 7
_HEADS = 4


class SepConv(nn.Sequential):
    """Two depthwise-separable 3x3 convolutions, the first at stride 2: c_in -> c_in -> c_out channels."""

    def __init__(self, c_in: int, c_out: int) -> None:
        layers: list[nn.Module] = []
        for stride, width in ((2, c_in), (1, c_out)):
            layers += [
                nn.Conv2d(c_in, c_in, 3, stride=stride, padding=1, groups=c_in, bias=False),
                nn.Conv2d(c_in, width, 1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
        super().__init__(*layers)


class ConvBranch(nn.Module):
    """Map of a stage -> vector: one SepConv for each deeper stage (a 1x1 convolution for the last), then mean pooling.

    Args:
        channels: of the stage's map.
        width: D of the vector.
        deeper: number of stages behind this one.
        bias: of the 1x1 convolution.
    """

    def __init__(self, channels: int, width: int, *, deeper: int, bias: bool = True) -> None:
        super().__init__()
        if deeper == 0:
            self.body: nn.Module = nn.Conv2d(channels, width, 1, bias=bias)
        else:
            widths = [channels * 2**j for j in range(deeper)] + [width]
            self.body = nn.Sequential(*(SepConv(a, b) for a, b in pairwise(widths)))

    def forward(self, stage: Tensor, prefix: Tensor | None = None) -> Tensor:
        """(B, C, H, W) -> (B, D)."""
        return F.adaptive_avg_pool2d(self.body(stage), 1).flatten(1)


class PatchMerging(nn.Module):
    """Four neighbouring tokens into one: (B, C, H, W) -> (B, D, H // 2, W // 2); an odd last row or column is cropped."""

    def __init__(self, channels: int, width: int, activation: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels)
        self.reduction = nn.Linear(4 * channels, width, bias=False)
        self.activation: nn.Module = nn.GELU() if activation else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2] // 2 * 2, x.shape[3] // 2 * 2
        x = x[:, :, :height, :width].permute(0, 2, 3, 1)
        x = torch.cat((x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]), dim=-1)
        return self.activation(self.reduction(self.norm(x))).permute(0, 3, 1, 2)


class TokenBranch(nn.Module):
    """Tokens of a stage -> vector: merge to a grid of about 7x7, then one transformer block for each deeper stage (at
    least one); the class token where there is one, else the mean over tokens.

    Args:
        stage: the stage; its map carries the patch tokens, its first prefix token is kept.
        width: D, the student's penultimate width.
        deeper: number of stages behind this one.
    """

    def __init__(self, stage: StageSpec, width: int, *, deeper: int) -> None:
        super().__init__()
        from timm.models.vision_transformer import Block

        steps = max(int(math.log2(stage.grid[0] / _TARGET_GRID)), 0)
        merges = []
        for step in range(steps):
            channels = stage.channels if step == 0 else width
            merges.append(PatchMerging(channels, width, activation=step == 0 or step < steps - 1))
        self.merges = nn.Sequential(*merges)
        # The original needs equal widths here; these two layers stand only where they differ.
        self.widen = nn.Identity() if steps or stage.channels == width else nn.Linear(stage.channels, width)
        self.has_prefix = stage.prefix_tokens > 0
        equal = not self.has_prefix or stage.channels == width
        self.widen_prefix = nn.Identity() if equal else nn.Linear(stage.channels, width)
        self.blocks = nn.Sequential(
            *(Block(width, _HEADS, mlp_ratio=4.0, qkv_bias=False) for _ in range(max(deeper, 1)))
        )

    def forward(self, stage: Tensor, prefix: Tensor | None = None) -> Tensor:
        """(B, C, h, w) and (B, P, C) -> (B, D)."""
        tokens = self.widen(self.merges(stage).flatten(2).transpose(1, 2))
        if self.has_prefix and prefix is not None:
            tokens = torch.cat((self.widen_prefix(prefix[:, :1]), tokens), dim=1)
        tokens = self.blocks(tokens)
        return tokens[:, 0] if self.has_prefix else tokens.mean(1)


def initialise(module: nn.Module) -> None:
    """OFAKD's initialisation: convolutions kaiming-normal (fan-out), linear layers truncated normal 0.02, biases 0."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
    if isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:
        nn.init.zeros_(module.bias)
