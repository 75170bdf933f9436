"""Shapes of a network without running it: the meta device answers wherever it can."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kdbench.errors import ModelError
from kdbench.models.backbone.channels import input_channels
from kdbench.models.backbone.evaluating import evaluating, on_meta
from kdbench.models.backbone.intermediates import run_intermediates

Begin = Callable[[Any, Tensor], Tensor]


@dataclass
class Shapes:
    """Shapes of one forward pass at batch 2. ``stem`` is empty where the network cannot be run in pieces, ``features``
    where they are several tensors (CrossViT's branches)."""

    features: Sequence[int]
    maps: list[Sequence[int]]
    penultimate: Sequence[int]
    logits: Sequence[int]
    stem: Sequence[int] = ()


class _Probe(nn.Module):
    backbone: Any

    def __init__(self, backbone: nn.Module, indices: list[int], begin: Begin | None) -> None:
        super().__init__()
        self.backbone = backbone
        self.indices = indices
        self.begin = begin

    def forward(self, x: Tensor) -> Any:
        if self.indices:
            features, maps = run_intermediates(self.backbone, x, self.indices)
        else:
            features, maps = self.backbone.forward_features(x), []
        head = self.backbone.forward_head
        maps = [m[0] if isinstance(m, tuple) else m for m in maps]
        stem = () if self.begin is None else self.begin(self.backbone, x).shape
        return features, maps, head(features, pre_logits=True), head(features), stem


def run_shapes(
    backbone: nn.Module, input_size: tuple[int, int], indices: list[int], name: str, begin: Begin | None = None
) -> Shapes:
    """Output shapes at ``input_size``, in evaluation mode, with every parameter replaced by its meta twin.

    Args:
        backbone: the network.
        input_size: (h, w).
        indices: the intermediates whose shapes are wanted.
        name: what an error calls the network.
        begin: runs the stem alone, for its shape.

    Raises:
        ModelError: the network cannot take an image of that size.
    """
    probe = _Probe(backbone, indices, begin)
    try:
        with evaluating(backbone):
            try:
                features, maps, pre, logits, stem = on_meta(probe, (2, input_channels(backbone), *input_size))
            except (NotImplementedError, RuntimeError, TypeError, ValueError, AssertionError):
                features, maps, pre, logits, stem = _for_real(probe, input_size)
    except (RuntimeError, ValueError, AssertionError, IndexError, TypeError) as error:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        if isinstance(error, TypeError) or "classification" in reason:
            raise ModelError(f"{name} gives no logits ({reason}); choose a network that classifies") from None
        if "meta tensors" in reason:
            raise ModelError(
                f"{name} cannot be described without its weights: it reads values of tensors that have none ({reason}); "
                "build it on a real device"
            ) from None
        raise ModelError(
            f"{name} cannot take a {input_size[0]}x{input_size[1]} image ({reason}); "
            "set INPUT_SIZE to a size that it takes"
        ) from None
    empty = [tuple(m.shape) for m in maps if 0 in m.shape]
    shape = _shape(features)
    if empty or 0 in shape:
        raise ModelError(
            f"{name}: a {input_size[0]}x{input_size[1]} image is too small, a feature map would be "
            f"{empty or shape}; set INPUT_SIZE to a larger size"
        )
    return Shapes(shape, [tuple(m.shape) for m in maps], tuple(pre.shape), tuple(logits.shape), tuple(stem))


def _shape(features: Any) -> tuple[int, ...]:
    return tuple(features.shape) if isinstance(features, Tensor) else ()


def _for_real(probe: _Probe, size: tuple[int, int]) -> Any:
    like = next(probe.parameters())
    return probe(torch.zeros(2, input_channels(probe.backbone), *size, device=like.device, dtype=like.dtype))
