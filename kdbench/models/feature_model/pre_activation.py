"""Maps in front of the last activation of the stages of timm's ResNets and MobileNetV1s."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

Preact = Callable[[Any, int, Tensor], tuple[Tensor, Tensor]]


def resnet_units(backbone: Any) -> Sequence[Any]:
    """The four stages."""
    return backbone.layer1, backbone.layer2, backbone.layer3, backbone.layer4


def resnet_activations(backbone: Any, cuts: Sequence[int]) -> tuple[Preact | None, tuple[str, ...]]:
    """How units of timm's ResNet give the sum in front of their last activation, and the names of the batch
    normalisations that nothing but that sum comes after; empty where one stage has none."""
    blocks: list[Any] = [resnet_units(backbone)[cut - 1][-1] for cut in cuts]  # type: ignore[index]
    if any(type(block).__name__ not in ("BasicBlock", "Bottleneck") for block in blocks):
        return None, ()
    norms = []
    for cut, block in zip(cuts, blocks):
        number = _last(block)
        plain = isinstance(getattr(block, f"act{number}"), nn.ReLU) and getattr(block, "se", None) is None
        if plain and isinstance(getattr(block, f"bn{number}"), nn.BatchNorm2d):
            norms.append(f"layer{cut}.{len(resnet_units(backbone)[cut - 1]) - 1}.bn{number}")  # type: ignore[arg-type]
    return _resnet_preact, tuple(norms) if len(norms) == len(cuts) else ()


def _resnet_preact(backbone: Any, k: int, x: Tensor) -> tuple[Tensor, Tensor]:
    layer = resnet_units(backbone)[k]
    block: Any = layer[-1]  # type: ignore[index]
    return _in_front_of(getattr(block, f"act{_last(block)}"), layer, x)


def mobile_activations(backbone: Any, cuts: Sequence[int]) -> tuple[Preact | None, tuple[str, ...]]:
    """The same for stages of timm's EfficientNet class. Those of MobileNetV1 end in a normalisation and its activation
    (a depthwise separable block without a shortcut); an inverted residual (MobileNetV2, EfficientNet) ends in neither."""
    norms = []
    for cut in cuts:
        stage = backbone.blocks[cut - 1]
        block = stage[-1]
        if type(block).__name__ != "DepthwiseSeparableConv" or block.has_skip:
            return None, ()
        if not isinstance(block.bn2.act, (nn.ReLU, nn.ReLU6)):
            return None, ()
        norms.append(f"blocks.{cut - 1}.{len(stage) - 1}.bn2")
    return _mobile_preact, tuple(norms)


def _mobile_preact(backbone: Any, k: int, x: Tensor) -> tuple[Tensor, Tensor]:
    stage: Any = backbone.blocks[k]
    return _in_front_of(stage[-1].bn2.act, stage, x)


def _in_front_of(activation: nn.Module, unit: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Output of ``unit``, and what its last ``activation`` was given."""
    seen: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        seen.append(inputs[0])
        # timm's activation works in place: it gets a copy.
        return (inputs[0].clone(),) if getattr(module, "inplace", False) else inputs

    handle = activation.register_forward_pre_hook(keep)
    try:
        x = unit(x)
    finally:
        handle.remove()
    return x, seen[-1]


def _last(block: Any) -> int:
    return 3 if hasattr(block, "act3") else 2
