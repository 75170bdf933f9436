"""timm's ``forward_intermediates`` for every class, whether its tensors hold values or not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from kdbench.models.backbone.tensor_layout import NLC, to_map

#: These lay their tokens out on a grid whose sides they read from the values of the tokens' positions. That waits for the
#: GPU, and on the meta device there is nothing to read. The image's size says the same.
_GRID_FROM_POSITIONS = ("gemma4_vit.Gemma4VitEncoder", "gemma4_vit.Gemma4VitClassifier")


def run_intermediates(backbone: nn.Module, x: Tensor, indices: Sequence[int], **options: Any) -> tuple[Any, list[Any]]:
    """``backbone.forward_intermediates`` on (B, 3, H, W) images.

    Args:
        backbone: a module with timm's feature interface.
        x: what it is fed with.
        indices: the intermediates that are wanted.
        **options: handed on.

    Returns:
        The features that the head reads, and one (B, C, h, w) map an index (a pair of map and prefix tokens, where
        ``options`` ask for those).
    """
    network: Any = backbone
    if timm_class(backbone) not in _GRID_FROM_POSITIONS:
        return network.forward_intermediates(x, indices=indices, **options)
    features, tokens = network.forward_intermediates(x, indices=indices, output_fmt=NLC, **options)
    grid = patch_grid(network, x)
    return features, [to_map(t, NLC, grid)[0] for t in tokens]


def patch_grid(network: Any, x: Tensor) -> tuple[int, int]:
    """(h, w) patches of (B, 3, H, W) images, of a network with a ``patch_size``."""
    height, width = network.patch_size
    return x.shape[-2] // height, x.shape[-1] // width


def timm_class(network: nn.Module) -> str:
    """Module and class of a timm network, without importing timm: ``resnet.ResNet``."""
    kind = type(network)
    return f"{kind.__module__.removeprefix('timm.models.')}.{kind.__qualname__}"
