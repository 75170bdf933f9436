"""How a network's head reads its last features, found out by values."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kdbench.models.backbone.evaluating import evaluating
from kdbench.models.backbone.intermediates import timm_class
from kdbench.models.backbone.tensor_layout import NCHW, NLC
from kdbench.models.feature_model.regions import one_place
from kdbench.models.feature_model.shapes import Shapes


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


def has_token_heads(backbone: nn.Module) -> bool:
    """Whether a class token and a distillation token have a linear head each: timm's ``deit_*_distilled_*``."""
    heads = (getattr(backbone, "head", None), getattr(backbone, "head_dist", None))
    return timm_class(backbone) == "deit.VisionTransformerDistilled" and all(isinstance(h, nn.Linear) for h in heads)


def token_heads(backbone: Any, features: Tensor) -> tuple[Tensor, Tensor]:
    """The logits of both heads, (B, K) each, from the (B, 2 + N, C) tokens that the head reads."""
    drop = getattr(backbone, "head_drop", None) or nn.Identity()
    return backbone.head(drop(features[:, 0])), backbone.head_dist(drop(features[:, 1]))


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
    normalised: list[bool] = []
    hooks = [
        module.register_forward_hook(lambda *_: normalised.append(True))
        for module in backbone.modules()
        if isinstance(module, _BatchNorm)
    ]
    try:
        with evaluating(backbone):
            kind = _head_by_values(backbone, classifier, shapes, like, layout, prefix_tokens)
    finally:
        for hook in hooks:
            hook.remove()
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
