"""Shapes of a network without running it: the meta device answers wherever it can."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from kdbench.errors import ModelError


class HeadKind(enum.Enum):
    """How a network turns its last features into logits.

    GAP: mean over places, then one linear layer. POOL: mean over places, then something that is not linear (ConvNeXt's
    norm). TOKEN: a class token. OTHER: one linear layer on something else. COMPOSITE: several heads, or more than a linear
    layer after the penultimate vector.
    """

    GAP = "gap"
    POOL = "pool"
    TOKEN = "token"
    OTHER = "other"
    COMPOSITE = "composite"


@dataclass
class Shapes:
    """Shapes of one forward pass at batch 2."""

    features: Sequence[int]
    maps: list[Sequence[int]]
    penultimate: Sequence[int]
    logits: Sequence[int]


class _Probe(nn.Module):
    def __init__(self, backbone: nn.Module, indices: list[int]) -> None:
        super().__init__()
        self.backbone = backbone
        self.indices = indices

    def forward(self, x: Tensor) -> Any:
        if self.indices:
            features, maps = self.backbone.forward_intermediates(x, indices=self.indices)
        else:
            features, maps = self.backbone.forward_features(x), []
        head = self.backbone.forward_head
        return features, [m[0] if isinstance(m, tuple) else m for m in maps], head(features, pre_logits=True), head(features)


def run_shapes(backbone: nn.Module, input_size: tuple[int, int], indices: list[int], name: str) -> Shapes:
    """Output shapes at ``input_size``, in evaluation mode, with every parameter replaced by its meta twin.

    Raises:
        ModelError: the network cannot take an image of that size.
    """
    probe = _Probe(backbone, indices)
    modes = {module: module.training for module in backbone.modules()}
    backbone.eval()
    try:
        with torch.no_grad():
            try:
                features, maps, pre, logits = _on_meta(probe, input_size)
            except (NotImplementedError, RuntimeError, TypeError, ValueError, AssertionError):
                features, maps, pre, logits = _for_real(probe, input_size)
    except (RuntimeError, ValueError, AssertionError, IndexError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ModelError(
            f"{name} cannot take a {input_size[0]}x{input_size[1]} image ({reason}); set INPUT_SIZE to a size that it takes"
        ) from None
    finally:
        for module, training in modes.items():
            module.training = training
    empty = [tuple(m.shape) for m in maps if 0 in m.shape]
    if empty or 0 in features.shape:
        raise ModelError(f"{name}: a {input_size[0]}x{input_size[1]} image is too small, a feature map would be {empty or tuple(features.shape)}")
    return Shapes(tuple(features.shape), [tuple(m.shape) for m in maps], tuple(pre.shape), tuple(logits.shape))


def _on_meta(probe: _Probe, size: tuple[int, int]) -> Any:
    tensors = {**dict(probe.named_parameters()), **dict(probe.named_buffers())}
    twins = {key: torch.empty_like(value, device="meta") for key, value in tensors.items()}
    return functional_call(probe, twins, (torch.empty(2, 3, *size, device="meta"),))


def _for_real(probe: _Probe, size: tuple[int, int]) -> Any:
    like = next(probe.parameters())
    return probe(torch.zeros(2, 3, *size, device=like.device, dtype=like.dtype))


def probe_head(backbone: nn.Module, shapes: Shapes, classifiers: Sequence[str]) -> HeadKind:
    """Find the kind of head by feeding random features to ``forward_head`` alone (no pass through the backbone)."""
    like = next(backbone.parameters())
    if like.device.type == "meta" or len(classifiers) != 1:
        return HeadKind.COMPOSITE
    classifier = backbone.get_submodule(classifiers[0])
    modes = {module: module.training for module in backbone.modules()}
    backbone.eval()
    try:
        with torch.no_grad():
            return _head_by_values(backbone, classifier, shapes, like)
    finally:
        for module, training in modes.items():
            module.training = training


def _head_by_values(backbone: Any, classifier: nn.Module, shapes: Shapes, like: Tensor) -> HeadKind:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shapes.features, generator=generator).to(like)
    pre, logits = backbone.forward_head(x, pre_logits=True), backbone.forward_head(x)
    if not torch.allclose(classifier(pre), logits, rtol=1e-4, atol=1e-5):
        return HeadKind.COMPOSITE
    if len(x.shape) == 3:
        mean = x.mean(1)
        changed = x.clone()
        changed[:, 1:] = torch.randn(changed[:, 1:].shape, generator=generator).to(like)
        # The vector before the classifier is compared, not the logits: a classifier may start at zero. A backbone that
        # hands over a single vector has already picked its class token.
        if torch.allclose(backbone.forward_head(changed, pre_logits=True), pre, rtol=1e-4, atol=1e-5):
            return HeadKind.TOKEN
    elif len(x.shape) == 4:
        mean = x.mean((2, 3)) if x.shape[1] == pre.shape[1] else x.mean((1, 2))
    else:
        return HeadKind.OTHER
    if mean.shape != pre.shape:
        return HeadKind.OTHER
    if torch.allclose(mean, pre, rtol=1e-4, atol=1e-5):
        return HeadKind.GAP
    pooled = x.mean((2, 3), keepdim=True) if len(x.shape) == 4 else x.mean(1, keepdim=True)
    same = pooled.shape[1] == pre.shape[1] or len(x.shape) == 3
    if same and torch.allclose(backbone.forward_head(pooled, pre_logits=True), pre, rtol=1e-4, atol=1e-5):
        return HeadKind.POOL
    return HeadKind.OTHER
