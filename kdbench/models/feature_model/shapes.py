"""Shapes of a network without running it: the meta device answers wherever it can."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from kdbench.errors import ModelError
from kdbench.models.backbone.intermediates import run_intermediates
from kdbench.models.backbone.tensor_layout import NCHW, NLC
from kdbench.models.feature_model.regions import one_place

Begin = Callable[[Any, Tensor], Tensor]


class HeadKind(enum.Enum):
    """How a network turns its last features into logits.

    GAP: mean over places, then one linear layer. POOL: mean over places, then something that is not linear (ConvNeXt's
    norm). TOKEN: a class token. OTHER: one linear layer on something else. COMPOSITE: several heads, or more than a
    linear layer after the penultimate vector.
    """

    GAP = "gap"
    POOL = "pool"
    TOKEN = "token"
    OTHER = "other"
    COMPOSITE = "composite"


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
    modes = {module: module.training for module in backbone.modules()}
    backbone.eval()
    try:
        with torch.no_grad():
            try:
                features, maps, pre, logits, stem = _on_meta(probe, input_size)
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
    finally:
        for module, training in modes.items():
            module.training = training
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


def _on_meta(probe: _Probe, size: tuple[int, int]) -> Any:
    tensors = {**dict(probe.named_parameters()), **dict(probe.named_buffers())}
    twins = {key: torch.empty_like(value, device="meta") for key, value in tensors.items()}
    # A module under two names (CoaT's MLPs) would be swapped twice, and put back wrongly, with tied weights.
    return functional_call(probe, twins, (torch.empty(2, 3, *size, device="meta"),), tie_weights=False)


def _for_real(probe: _Probe, size: tuple[int, int]) -> Any:
    like = next(probe.parameters())
    return probe(torch.zeros(2, 3, *size, device=like.device, dtype=like.dtype))


def probe_head(
    backbone: nn.Module, shapes: Shapes, classifiers: Sequence[str], layout: str, prefix_tokens: int
) -> HeadKind:
    """Find the kind of head by feeding random features to ``forward_head`` alone (no pass through the backbone).

    Args:
        backbone: the network.
        shapes: its shapes.
        classifiers: names of its classifiers.
        layout: of its features.
        prefix_tokens: tokens in front of the others, which a mean over places leaves out.
    """
    like = next(backbone.parameters())
    if like.device.type == "meta" or len(classifiers) != 1 or not shapes.features:
        return HeadKind.COMPOSITE
    classifier = backbone.get_submodule(classifiers[0])
    if isinstance(classifier, nn.Conv2d):  # it reads a map of one place, which is flattened afterwards
        return HeadKind.COMPOSITE
    modes = {module: module.training for module in backbone.modules()}
    normalised: list[bool] = []
    hooks = [
        module.register_forward_hook(lambda *_: normalised.append(True))
        for module in modes
        if isinstance(module, _BatchNorm)
    ]
    backbone.eval()
    try:
        with torch.no_grad():
            kind = _head_by_values(backbone, classifier, shapes, like, layout, prefix_tokens)
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes.items():
            module.training = training
    # A fresh batch normalisation is the identity, so that values say nothing of it.
    return HeadKind.OTHER if normalised and kind in (HeadKind.GAP, HeadKind.POOL) else kind


def _head_by_values(
    backbone: Any, classifier: nn.Module, shapes: Shapes, like: Tensor, layout: str, prefix_tokens: int
) -> HeadKind:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shapes.features, generator=generator).to(like)
    pre, logits = backbone.forward_head(x, pre_logits=True), backbone.forward_head(x)
    if not torch.allclose(classifier(pre), logits, rtol=1e-4, atol=1e-5):
        return HeadKind.COMPOSITE
    if x.dim() not in (3, 4):
        return HeadKind.OTHER
    if layout == NLC:
        changed = x.clone()
        changed[:, 1:] = torch.randn(changed[:, 1:].shape, generator=generator).to(like)
        # The vector before the classifier is compared, not the logits: a classifier may start at zero. A backbone that
        # hands over a single vector has already picked its class token.
        if torch.allclose(backbone.forward_head(changed, pre_logits=True), pre, rtol=1e-4, atol=1e-5):
            return HeadKind.TOKEN
    mean = x[:, prefix_tokens:].mean(1) if layout == NLC else x.mean((2, 3) if layout == NCHW else (1, 2))
    if mean.shape != pre.shape:
        return HeadKind.OTHER
    if torch.allclose(mean, pre, rtol=1e-4, atol=1e-5):
        return HeadKind.GAP
    pooled = backbone.forward_head(one_place(mean, layout, prefix_tokens), pre_logits=True)
    return HeadKind.POOL if torch.allclose(pooled, pre, rtol=1e-4, atol=1e-5) else HeadKind.OTHER
