"""What the 32x32 networks share: blocks that end in a ReLU, their stages, and the weight initialisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn

from kdbench.models.backbone.staged import StagedBackbone


class ReluBlock(nn.Module):
    """A block whose output is the ReLU of :meth:`preact`."""

    def preact(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W'), the block's output before its last activation."""
        raise TypeError(f"{type(self).__name__} must define preact(x)")

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W')."""
        return F.relu(self.preact(x))


class BlockBackbone(StagedBackbone):
    """A network whose stages are ``nn.Sequential``s, named by ``feature_info``, that end in a :class:`ReluBlock`."""

    def stage(self, i: int) -> nn.Sequential:
        """The blocks of stage ``i``."""
        return getattr(self, self.feature_info[i]["module"])

    def run_stage(self, i: int, x: Tensor) -> Tensor:
        """Output of stage ``i``; by a call of the stage itself, so that hooks on it fire."""
        return self.stage(i)(x)

    def stage_with_preact(self, i: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """Stage ``i``: ``(relu(pre), pre)``."""
        *body, last = self.stage(i)
        for block in body:
            x = block(x)
        pre = cast(ReluBlock, last).preact(x)
        return F.relu(pre), pre


def stage_info(channels: Sequence[int], reductions: Sequence[int], modules: Sequence[str]) -> list[dict[str, Any]]:
    """timm's ``feature_info``: width, stride against a 32x32 input, and module name of each stage."""
    return [{"num_chs": c, "reduction": r, "module": m} for c, r, m in zip(channels, reductions, modules, strict=True)]


def conv3x3(inputs: int, outputs: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """3x3 convolution without bias that keeps the grid, but for its stride."""
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, groups=groups, bias=False)


def conv1x1(inputs: int, outputs: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """1x1 convolution without bias."""
    return nn.Conv2d(inputs, outputs, 1, stride, groups=groups, bias=False)


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """Deal the channels out over the groups (Zhang et al., CVPR 2018): (B, C, H, W) -> (B, C, H, W)."""
    b, c, h, w = x.shape
    return x.view(b, groups, c // groups, h, w).transpose(1, 2).reshape(b, c, h, w)


def init_he(network: nn.Module, linear_std: float | None = None, zero_linear_bias: bool = False) -> None:
    """He et al.'s initialisation: convolutions from N(0, 2 / fan_out) with zero bias, batch normalisation 1 and 0.

    Args:
        network: changed in place.
        linear_std: standard deviation of linear weights; None keeps PyTorch's default.
        zero_linear_bias: linear biases start at zero.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            if linear_std is not None:
                nn.init.normal_(module.weight, std=linear_std)
            if zero_linear_bias:
                nn.init.zeros_(module.bias)
