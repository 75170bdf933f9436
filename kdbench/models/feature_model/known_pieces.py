"""Which networks have known pieces: this project's own, and timm's plain sequences of blocks or stages."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from kdbench.models.backbone.intermediates import timm_class
from kdbench.models.backbone.staged import StagedBackbone
from kdbench.models.backbone.tensor_layout import NCHW, NHWC, NLC
from kdbench.models.feature_model.pieces import Pieces
from kdbench.models.feature_model.pre_activation import Preact, mobile_activations, resnet_activations, resnet_units
from kdbench.models.feature_model.stage_choice import FINAL


def find_pieces(backbone: nn.Module, indices: Sequence[int]) -> Pieces | None:
    """The pieces of a backbone cut at the intermediates ``indices``, or None: an unknown architecture, no stages, stages
    that do not lie in the order of depth, or a stage within the stem."""
    if not indices:
        return None
    if isinstance(backbone, StagedBackbone):
        return _own(backbone, indices)
    # The exact class: a subclass may go another way through the same modules.
    family = _TIMM.get(timm_class(backbone))
    if family is None:
        return None
    count = len(family.units(backbone))
    cuts = tuple(count + 1 if i == FINAL else family.cut(backbone, i) for i in indices)
    if not _increasing(cuts):
        return None
    preact = norms = None
    if family.activations is not None and FINAL not in indices:
        preact, norms = family.activations(backbone, cuts)
    return Pieces(
        layout=family.layout,
        begin=family.begin,
        unit=family.unit,
        end=family.end,
        count=count,
        cuts=cuts,
        preact=preact,
        norms=norms or (),
        prefix_tokens=int(getattr(backbone, "num_prefix_tokens", 0) or 0) if family.layout == NLC else 0,
    )


def _increasing(cuts: Sequence[int]) -> bool:
    return cuts[0] > 0 and all(a < b for a, b in itertools.pairwise(cuts))


def _own(backbone: StagedBackbone, indices: Sequence[int]) -> Pieces | None:
    count = len(backbone.feature_info)
    cuts = tuple(count + 1 if i == FINAL else i + 1 for i in indices)
    if not _increasing(cuts):
        return None
    norms: list[str] = []
    active = backbone.has_preact and FINAL not in indices
    if active:
        names = {id(module): name for name, module in backbone.named_modules()}
        norms = [names[id(bn)] for bn in map(backbone.bn_before_relu, indices) if bn is not None]
    return Pieces(
        layout=NCHW,
        begin=_own_begin,
        unit=_own_unit,
        end=_own_end,
        count=count,
        cuts=cuts,
        preact=_own_preact if active else None,
        norms=tuple(norms) if len(norms) == len(indices) else (),
    )


def _own_begin(backbone: Any, x: Tensor) -> Tensor:
    return backbone.run_stem(x)


def _own_unit(backbone: Any, k: int, x: Tensor) -> Tensor:
    return backbone.run_stage(k, x)


def _own_preact(backbone: Any, k: int, x: Tensor) -> tuple[Tensor, Tensor]:
    return backbone.stage_with_preact(k, x)


def _own_end(backbone: Any, x: Tensor) -> Tensor:
    return backbone.run_tail(x)


@dataclass(frozen=True)
class _Family:
    layout: str
    begin: Callable[[Any, Tensor], Tensor]
    units: Callable[[Any], Sequence[nn.Module]]
    unit: Callable[[Any, int, Tensor], Tensor]
    end: Callable[[Any, Tensor], Tensor]
    #: how many units have run at timm's intermediate ``i``
    cut: Callable[[Any, int], int]
    activations: Callable[[Any, Sequence[int]], tuple[Preact | None, tuple[str, ...]]] | None = None


def _next(backbone: Any, i: int) -> int:
    return i + 1


def _same(x: Any, i: int) -> int:
    return i


def _stage_end(backbone: Any, i: int) -> int:
    return backbone.stage_ends[i]


def _nothing(backbone: Any, x: Tensor) -> Tensor:
    return x


def _norm(backbone: Any, x: Tensor) -> Tensor:
    return backbone.norm(x)


def _vit_begin(backbone: Any, x: Tensor) -> Tensor:
    return backbone.norm_pre(backbone.patch_drop(backbone._pos_embed(backbone.patch_embed(x))))


def _blocks(backbone: Any) -> Sequence[nn.Module]:
    return backbone.blocks


def _block(backbone: Any, k: int, x: Tensor) -> Tensor:
    return backbone.blocks[k](x)


def _stem(backbone: Any, x: Tensor) -> Tensor:
    return backbone.stem(x)


def _swin_begin(backbone: Any, x: Tensor) -> Tensor:
    return backbone.patch_embed(x)


def _layers(backbone: Any) -> Sequence[nn.Module]:
    return backbone.layers


def _layer(backbone: Any, k: int, x: Tensor) -> Tensor:
    return backbone.layers[k](x)


def _stages(backbone: Any) -> Sequence[nn.Module]:
    return backbone.stages


def _stage(backbone: Any, k: int, x: Tensor) -> Tensor:
    return backbone.stages[k](x)


def _convnext_end(backbone: Any, x: Tensor) -> Tensor:
    return backbone.norm_pre(x)


def _mobile_begin(backbone: Any, x: Tensor) -> Tensor:
    return backbone.bn1(backbone.conv_stem(x))


def _efficientnet_end(backbone: Any, x: Tensor) -> Tensor:
    return backbone.bn2(backbone.conv_head(x))


def _regnet_units(backbone: Any) -> Sequence[nn.Module]:
    return backbone.s1, backbone.s2, backbone.s3, backbone.s4


def _regnet_unit(backbone: Any, k: int, x: Tensor) -> Tensor:
    return _regnet_units(backbone)[k](x)


def _regnet_end(backbone: Any, x: Tensor) -> Tensor:
    return backbone.final_conv(x)


def _resnet_begin(backbone: Any, x: Tensor) -> Tensor:
    return backbone.maxpool(backbone.act1(backbone.bn1(backbone.conv1(x))))


def _resnet_unit(backbone: Any, k: int, x: Tensor) -> Tensor:
    return resnet_units(backbone)[k](x)


_SWIN = _Family(NHWC, _swin_begin, _layers, _layer, _norm, _next)
_VIT = _Family(NLC, _vit_begin, _blocks, _block, _norm, _next)
#: by module and class name, so that timm is not imported for networks of our own
_TIMM = {
    "vision_transformer.VisionTransformer": _VIT,
    "deit.VisionTransformerDistilled": _VIT,
    "mlp_mixer.MlpMixer": _Family(NLC, _stem, _blocks, _block, _norm, _next),
    "swin_transformer.SwinTransformer": _SWIN,
    "swin_transformer_v2.SwinTransformerV2": _SWIN,
    "resnet.ResNet": _Family(NCHW, _resnet_begin, resnet_units, _resnet_unit, _nothing, _same, resnet_activations),
    "convnext.ConvNeXt": _Family(NCHW, _stem, _stages, _stage, _convnext_end, _next),
    "efficientnet.EfficientNet": _Family(
        NCHW, _mobile_begin, _blocks, _block, _efficientnet_end, _stage_end, mobile_activations
    ),
    "mobilenetv3.MobileNetV3": _Family(NCHW, _mobile_begin, _blocks, _block, _nothing, _stage_end),
    "regnet.RegNet": _Family(NCHW, _stem, _regnet_units, _regnet_unit, _regnet_end, _same),
}
