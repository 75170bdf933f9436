"""Modules of perspective-aware teaching: blending of the student's stages, alignment, prompts of the teacher."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdbench.models.spec import StageSpec

#: Each stage becomes 4 x 4 regions.
_SIDE = 4
_REGIONS = _SIDE**2


class Blending(nn.Module):
    """Region-aware attention: every stage's regions attend to the regions of all stages."""

    def __init__(self, stages: Sequence[StageSpec], dim: int, heads: int) -> None:
        super().__init__()
        self.patches = nn.ModuleList(_Patches(stage, dim) for stage in stages)
        self.norm = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, dim, bias=False)
        self.key_value = nn.Linear(dim, 2 * dim, bias=False)
        self.heads = heads
        self.register_buffer("position", _sinusoids(_REGIONS * len(stages), dim), persistent=False)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """(B, C, H, W) of every stage -> (B, 16, dim) of every stage."""
        x = self.norm(torch.cat([patch(m) for patch, m in zip(self.patches, maps, strict=True)], dim=1))
        key, value = self.key_value(x).chunk(2, dim=2)
        query, key = self.query(x) + self.position, key + self.position
        split = (t.unflatten(2, (self.heads, -1)).transpose(1, 2) for t in (query, key, value))
        x = F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)
        return list(x.chunk(len(maps), dim=1))


class Prompt(nn.Module):
    """``x + beta prompt(fuse(x, feedback))``; beta starts at 0, so that the teacher starts as it is."""

    def __init__(self, channels: int, fuse: bool) -> None:
        super().__init__()
        groups = math.gcd(4, channels)
        self.beta = nn.Parameter(torch.zeros(()))
        self.fuse = (
            nn.Sequential(
                nn.Conv2d(2 * channels, channels, 1),
                nn.Conv2d(channels, channels, 5, padding=2),
                nn.Conv2d(channels, channels, 1),
                _gate(channels),
                nn.Conv2d(channels, channels, 1),
            )
            if fuse
            else None
        )
        self.prompt = nn.Sequential(
            nn.Conv2d(channels, channels, 1, groups=groups),
            nn.Conv2d(channels, channels, 5, padding=2, groups=channels),
            nn.Conv2d(channels, channels, 1),
            _gate(channels),
            nn.Conv2d(channels, channels, 1, groups=groups),
        )

    def forward(self, x: Tensor, feedback: Tensor | None) -> Tensor:
        """``x`` and ``feedback`` (B, C, H, W) -> (B, C, H, W)."""
        fused = x if feedback is None or self.fuse is None else self.fuse(torch.cat((x, feedback), dim=1))
        return x + self.beta * self.prompt(fused)


class Feedback(nn.Module):
    """Brings feedback at a stage's output to the shape of its input."""

    def __init__(self, stage: StageSpec, entry: StageSpec) -> None:
        super().__init__()
        self.grid = entry.grid
        same = stage.channels == entry.channels
        self.project = nn.Identity() if same else nn.Conv2d(stage.channels, entry.channels, 1, bias=False)

    def forward(self, feedback: Tensor) -> Tensor:
        """(B, C_out, H_out, W_out) -> (B, C_in, H_in, W_in)."""
        if not isinstance(self.project, nn.Identity):
            feedback = self.project(
                feedback.clone()
            )  # its gradient reads it after the step has overwritten the feedback
        return feedback if feedback.shape[2:] == self.grid else F.interpolate(feedback, self.grid, mode="nearest")


def aligner(dim: int, stage: StageSpec, tokens: bool) -> nn.Module:
    """(B, 16, dim) -> the teacher stage's map (B, C, H, W)."""
    return _TokenAligner(dim, stage) if tokens else _MapAligner(dim, stage)


class _TokenAligner(nn.Module):
    def __init__(self, dim: int, stage: StageSpec) -> None:
        super().__init__()
        self.grid = stage.grid
        self.norm = nn.BatchNorm1d(_REGIONS)
        self.channels = nn.Linear(dim, stage.channels, bias=False)
        self.channel_norm = nn.BatchNorm1d(stage.channels)
        self.places = nn.Linear(_REGIONS, stage.grid[0] * stage.grid[1])

    def forward(self, x: Tensor) -> Tensor:
        x = self.channel_norm(self.channels(self.norm(x)).transpose(1, 2))
        return self.places(x).unflatten(2, self.grid)


class _MapAligner(nn.Module):
    def __init__(self, dim: int, stage: StageSpec) -> None:
        super().__init__()
        self.grid = stage.grid
        self.norm = nn.BatchNorm2d(dim)
        self.project = nn.Conv2d(dim, stage.channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2).unflatten(2, (_SIDE, _SIDE))
        return self.project(self.norm(F.interpolate(x, self.grid, mode="nearest")))


class _Patches(nn.Module):
    """(B, C, H, W) -> (B, 16, dim): one patch embedding for each of the 4 x 4 regions."""

    def __init__(self, stage: StageSpec, dim: int) -> None:
        super().__init__()
        size = tuple(math.ceil(side / _SIDE) for side in stage.grid)
        self.grid = (size[0] * _SIDE, size[1] * _SIDE)
        self.project = nn.Conv2d(stage.channels, dim, (size[0], size[1]), stride=(size[0], size[1]))

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2:] != self.grid:
            x = F.interpolate(x, self.grid, mode="nearest")
        return self.project(x).flatten(2).transpose(1, 2)


def _gate(channels: int) -> nn.Sequential:
    hidden = max(1, channels // 16)
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, channels, 1), nn.Sigmoid()
    )


def _sinusoids(length: int, dim: int) -> Tensor:
    """(length, dim): sine and cosine of the position at geometrically spaced frequencies."""
    frequency = torch.exp(torch.arange(0, dim, 2) * (-math.log(10000.0) / dim))
    angle = torch.arange(length)[:, None] * frequency
    return torch.stack((angle.sin(), angle.cos()), dim=2).flatten(1)[:, :dim]
