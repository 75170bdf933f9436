"""Paths through two networks: bridges between their feature spaces, and what runs behind a bridge."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kdbench.models.spec import ModelOutput, StageSpec


def run_from(network: Any, x: Any, first: int) -> tuple[ModelOutput, list[Tensor]]:
    """From the input of stage ``first`` to the output, and the maps on the way."""
    maps = []
    for i in range(first, len(network.spec.stages)):
        x = network.run_stage(i, x)
        maps.append(network.to_map(i, x)[0])
    return network.finish(x), maps


def pooled(feature_map: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C): rectified, then the mean over places."""
    return feature_map.relu().mean((2, 3))


@contextmanager
def untouched_statistics(network: nn.Module, of_batch: bool = False) -> Iterator[None]:
    """Batch normalisation leaves its running statistics as they are; ``of_batch`` also makes it use the batch's own, as
    a network in training mode does by itself."""
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm)]
    kept = [(m.momentum, m.training, None if (n := m.num_batches_tracked) is None else n.clone()) for m in norms]
    try:
        for m in norms:
            m.momentum = 0.0
            m.training = m.training or of_batch
        yield
    finally:
        for m, (momentum, training, count) in zip(norms, kept):
            m.momentum, m.training = momentum, training
            if m.num_batches_tracked is not None and count is not None:
                m.num_batches_tracked.copy_(count)


def grid_ratio(source: tuple[int, int], target: tuple[int, int]) -> float | None:
    """Size of the target over that of the source: 1, 2 or 0.5, else None."""
    for ratio, a, b in ((1.0, 1, 1), (2.0, 2, 1), (0.5, 1, 2)):
        if all(x * a == y * b for x, y in zip(source, target)):
            return ratio
    return None


def bridge(source: StageSpec, target: StageSpec, rectified: bool) -> nn.Sequential:
    """Convolution and batch normalisation, and a LeakyReLU where the target's next stage expects rectified maps. No
    bias: the normalisation would take it out again."""
    ratio = grid_ratio(source.grid, target.grid)
    conv: nn.Conv2d | nn.ConvTranspose2d
    if ratio == 2.0:
        conv = nn.ConvTranspose2d(source.channels, target.channels, 4, stride=2, padding=1, bias=False)
    else:
        stride = 2 if ratio == 0.5 else 1
        conv = nn.Conv2d(source.channels, target.channels, 3, stride=stride, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    modules: list[nn.Module] = [conv, nn.BatchNorm2d(target.channels)]
    return nn.Sequential(*modules, *([nn.LeakyReLU(0.1)] if rectified else []))
