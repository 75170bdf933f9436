"""Maps and token sequences: the same features laid out as (B, C, H, W), (B, H, W, C) or (B, P + H W, C)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

NCHW, NHWC, NLC = "NCHW", "NHWC", "NLC"


def layout_of(shape: Sequence[int], declared: str = "") -> str:
    """Layout of features of this shape; ``declared`` (timm's ``output_fmt``) is believed for four dimensions."""
    if len(shape) == 3:
        return NLC
    if declared in (NCHW, NHWC):
        return declared
    return NHWC if len(shape) == 4 and shape[1] == shape[2] != shape[3] else NCHW


def to_map(x: Tensor, layout: str, grid: tuple[int, int], prefix_tokens: int = 0) -> tuple[Tensor, Tensor | None]:
    """Features in ``layout`` -> a (B, C, H, W) view, and the (B, P, C) tokens in front of them (None without any)."""
    if layout == NCHW:
        return x, None
    if layout == NHWC:
        return x.permute(0, 3, 1, 2), None
    feature_map = x[:, prefix_tokens:].transpose(1, 2).unflatten(2, grid)
    return feature_map, x[:, :prefix_tokens] if prefix_tokens else None


def from_map(feature_map: Tensor, layout: str, prefix: Tensor | None) -> Tensor:
    """The inverse of :func:`to_map`."""
    if layout == NCHW:
        return feature_map
    if layout == NHWC:
        # Window partitions view their input, which a permuted map may not allow.
        return feature_map.permute(0, 2, 3, 1).contiguous()
    tokens = feature_map.flatten(2).transpose(1, 2)
    return tokens.contiguous() if prefix is None else torch.cat((prefix, tokens), dim=1)


def grid_of(
    shape: Sequence[int], layout: str, prefix_tokens: int, known: tuple[int, int] | None
) -> tuple[int, int] | None:
    """(h, w) of features of ``shape``; of tokens it is ``known`` where that fits, a square otherwise, else None."""
    if layout != NLC:
        return (shape[2], shape[3]) if layout == NCHW else (shape[1], shape[2])
    places = shape[1] - prefix_tokens
    if known is not None and known[0] * known[1] == places:
        return known
    side = round(max(places, 0) ** 0.5)
    return (side, side) if side and side * side == places else None
