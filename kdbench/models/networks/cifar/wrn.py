"""Wide residual networks for 32x32 images (Zagoruyko & Komodakis, BMVC 2016).

Initialisation: convolutions from N(0, 2 / (k * k * outputs)), 1 and 0 for batch normalisation, classifier weights by
PyTorch's default and its bias zero.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from kdbench.models.backbone.staged import StagedBackbone
from kdbench.models.networks.cifar.blocks import conv1x1, conv3x3, init_he, stage_info


class BasicBlock(nn.Module):
    """Batch normalisation, ReLU and 3x3 convolution, twice; its output is the raw sum with the shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int, drop_rate: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = conv3x3(inputs, outputs, stride)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = conv3x3(outputs, outputs)
        self.drop_rate = drop_rate
        self.convShortcut = conv1x1(inputs, outputs, stride) if inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W')."""
        active = F.relu(self.bn1(x), inplace=True)
        out = F.relu(self.bn2(self.conv1(active)), inplace=True)
        if self.drop_rate > 0:
            out = F.dropout(out, self.drop_rate, self.training)
        # a projected shortcut starts from the activated map, an identity from the raw one
        return self.conv2(out) + (x if self.convShortcut is None else self.convShortcut(active))


class NetworkBlock(nn.Module):
    """One stage."""

    def __init__(self, inputs: int, outputs: int, depth: int, stride: int, drop_rate: float) -> None:
        super().__init__()
        rest = [BasicBlock(outputs, outputs, 1, drop_rate) for _ in range(depth - 1)]
        self.layer = nn.Sequential(BasicBlock(inputs, outputs, stride, drop_rate), *rest)

    @property
    def first_bn(self) -> nn.BatchNorm2d:
        """The batch normalisation that reads this stage's input."""
        return self.layer[0].bn1  # type: ignore[return-value]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W')."""
        return self.layer(x)


class WideResNet(StagedBackbone):
    """WRN-``depth``-``widen``.

    A stage's output is the raw sum of its last block. What stands before the next activation is that sum after the
    *next* batch normalisation (of the following stage, or the network's last one), hence relu(pre) is not the output.

    Args:
        depth: ``6n + 4``.
        widen: factor on the widths 16, 32, 64.
        num_classes: K.
        drop_rate: dropout between the two convolutions of a block.
    """

    def __init__(self, depth: int, widen: int, num_classes: int, drop_rate: float = 0.0) -> None:
        super().__init__()
        blocks = (depth - 4) // 6
        widths = (16 * widen, 32 * widen, 64 * widen)
        self.num_classes = num_classes
        self.num_features = widths[-1]
        self.feature_info = stage_info(widths, (1, 2, 4), ("block1", "block2", "block3"))
        self.conv1 = conv3x3(3, 16)
        self.block1 = NetworkBlock(16, widths[0], blocks, 1, drop_rate)
        self.block2 = NetworkBlock(widths[0], widths[1], blocks, 2, drop_rate)
        self.block3 = NetworkBlock(widths[1], widths[2], blocks, 2, drop_rate)
        self.bn1 = nn.BatchNorm2d(widths[2])
        self.fc = nn.Linear(widths[2], num_classes)
        init_he(self, zero_linear_bias=True)

    def run_stem(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 16, H, W)."""
        return self.conv1(x)

    def run_stage(self, i: int, x: Tensor) -> Tensor:
        """Output of stage ``i``, without the normalisation that only the map before the activation needs."""
        return getattr(self, self.feature_info[i]["module"])(x)

    def stage_with_preact(self, i: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """Stage ``i``: the raw sum, and the same after :meth:`bn_before_relu`."""
        x = self.run_stage(i, x)
        return x, _normalise(self.bn_before_relu(i), x)

    def run_tail(self, x: Tensor) -> Tensor:
        """The last batch normalisation and ReLU."""
        return F.relu(self.bn1(x), inplace=True)

    def bn_before_relu(self, i: int) -> nn.BatchNorm2d:
        """The batch normalisation that reads stage ``i``'s output."""
        return (self.block2.first_bn, self.block3.first_bn, self.bn1)[i]


def _normalise(bn: nn.BatchNorm2d, x: Tensor) -> Tensor:
    # in training the network itself applies this layer to the same map later: its running statistics move once, there
    if not bn.training:
        return bn(x)
    return F.batch_norm(x, None, None, bn.weight, bn.bias, training=True, eps=bn.eps)


def wrn_16_1(num_classes: int = 100, drop_rate: float = 0.0) -> WideResNet:
    """WRN-16-1, 0.18 M parameters."""
    return WideResNet(16, 1, num_classes, drop_rate)


def wrn_16_2(num_classes: int = 100, drop_rate: float = 0.0) -> WideResNet:
    """WRN-16-2, 0.70 M parameters."""
    return WideResNet(16, 2, num_classes, drop_rate)


def wrn_40_1(num_classes: int = 100, drop_rate: float = 0.0) -> WideResNet:
    """WRN-40-1, 0.57 M parameters."""
    return WideResNet(40, 1, num_classes, drop_rate)


def wrn_40_2(num_classes: int = 100, drop_rate: float = 0.0) -> WideResNet:
    """WRN-40-2, 2.26 M parameters."""
    return WideResNet(40, 2, num_classes, drop_rate)
