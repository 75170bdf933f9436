"""One pass over a network that notes what each of its submodules gives: its stages and its classifier are found in it."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from kdbench.errors import ModelError
from kdbench.models.backbone.evaluating import evaluating, on_meta
from kdbench.models.backbone.tensor_layout import NHWC, layout_of
from kdbench.models.feature_model.stage_choice import quarters, without_stem

_META_FAILS = (NotImplementedError, RuntimeError, TypeError, ValueError, AssertionError)
_MOST_PREFIX = 8
_MOST_NAMED = 6


@dataclass(frozen=True)
class Call:
    """A submodule that has run: its name, and the shape of its output (empty where that is no tensor)."""

    name: str
    kind: type
    shape: tuple[int, ...]


@dataclass
class Trace:
    """One pass at batch 2: calls in the order in which they ended, vectors (2, D) among inputs and outputs, and what came out."""

    calls: list[Call] = field(default_factory=list)
    vectors: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    output: Any = None


def trace(network: nn.Module, size: tuple[int, int], channels: int, name: str) -> Trace:
    """Run ``network`` once in evaluation mode on (2, C, H, W), on the meta device where that is possible.

    Raises:
        ModelError: it cannot take such an image.
    """
    shape = (2, channels, *size)
    found = Trace()

    def note(module_name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            tensor = isinstance(output, Tensor)
            found.calls.append(Call(module_name, type(module), tuple(output.shape) if tensor else ()))
            if tensor and output.dim() == 2 and inputs and isinstance(inputs[0], Tensor) and inputs[0].dim() == 2:
                found.vectors[module_name] = (inputs[0], output)

        return hook

    hooks = [module.register_forward_hook(note(key)) for key, module in network.named_modules() if key]
    try:
        with evaluating(network):
            try:
                found.output = on_meta(network, shape)
            except _META_FAILS:
                found.calls.clear()
                found.vectors.clear()
                found.output = network(_image(network, shape))
    except Exception as error:  # noqa: BLE001 - a network of the user's fails in any way
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise ModelError(
            f"{name} cannot take a {size[0]}x{size[1]} image of {channels} channels ({reason}); set INPUT_SIZE to a size that it "
            "takes, or register it with any_size=False"
        ) from None
    finally:
        for one in hooks:
            one.remove()
    return found


def find_classifier(found: Trace, num_classes: int, name: str) -> str:
    """Name of the submodule whose output the network returns as logits: the innermost that maps (2, D) to them.

    Raises:
        ModelError: the network returns no (B, K) tensor, or none of its submodules, or more than one, may be the classifier.
    """
    if not isinstance(found.output, Tensor):
        raise ModelError(
            f"{name} returns {_what(found.output)}, expects (B, {num_classes}) logits; name its classifier, whose output is taken "
            f"instead{_among(_linear(found, num_classes))}"
        )
    if tuple(found.output.shape) != (2, num_classes):
        raise ModelError(f"{name} returns {_shape(found.output)}, expects (B, {num_classes}) logits")
    for key, (_, logits) in found.vectors.items():
        if logits is found.output:
            return key
    candidates = _linear(found, num_classes)
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        raise ModelError(f"{name}: several submodules may be its classifier{_among(candidates)}; name one")
    others = [f"{key} ({logits.shape[1]})" for key, (_, logits) in found.vectors.items()]
    raise ModelError(
        f"{name}: no classifier found, no submodule maps (B, D) vectors to {num_classes} classes{_among(others, 'there are')}"
    )


def find_stages(found: Trace, size: tuple[int, int], prefix_tokens: int = 0) -> tuple[list[str], int]:
    """Names of the submodules whose outputs are the stages, and how many prefix tokens stand in front of token stages.

    Of equal blocks of tokens those after each quarter of them; of tokens whose number falls, the last block of each number; of
    maps, whose resolution falls, the last output of each resolution, outside of blocks that go on to the next. At most the last
    four, never a map of one place, and no stem in front of others.
    """
    groups, prefix = _token_blocks(found, prefix_tokens)
    if groups:
        lengths = {shape[1]: names for shape, names in groups.items()}
        if len(lengths) == 1:
            most = max(groups.values(), key=len)
            return [most[i] for i in quarters(len(most))], prefix
        return [names[-1] for names in lengths.values()][-4:], prefix
    ends: dict[tuple[int, int], Call] = {}
    smallest = size
    for call in found.calls:
        side = _side(call.shape)
        # maps of attention, whose sides are numbers of tokens, come after smaller ones
        if side is None or side[0] * side[1] == 1 or side[0] > smallest[0] or side[1] > smallest[1]:
            continue
        smallest = side
        if side not in ends or _depth(call.name) <= _depth(ends[side].name):
            ends[side] = call
    ordered = list(ends.values())
    names = without_stem([call.name for call in ordered])
    if len(names) == 1:
        same = [c for c in found.calls if c.shape == ordered[-1].shape and c.name != ordered[-1].name]
        blocks = max(_siblings(same).values(), key=len, default=[])
        if len(blocks) > 2:
            return [blocks[i] for i in quarters(len(blocks))], 0
    return names[-4:], 0


def nearest_maps(found: Trace, stage: str) -> list[str]:
    """Submodules within ``stage`` that give a map or tokens, the last first."""
    inside = [call.name for call in found.calls if call.name.startswith(f"{stage}.") and len(call.shape) in (3, 4)]
    return list(dict.fromkeys(reversed(inside)))[:3]


def _token_blocks(found: Trace, prefix_tokens: int) -> tuple[dict[tuple[int, ...], list[str]], int]:
    """Equal siblings that give tokens of a square grid, by the shape of those, shallow to deep."""
    calls = [call for call in found.calls if len(call.shape) == 3 and call.shape[0] == 2]
    groups: dict[tuple[int, ...], list[str]] = {}
    prefix = prefix_tokens
    for (_, _, shape), names in _siblings(calls).items():
        extra = _prefix_of(shape[1], prefix_tokens)
        if len(names) > 1 and extra is not None and len(names) > len(groups.get(shape, ())):
            groups[shape], prefix = names, extra
    depth = min((name.count(".") for names in groups.values() for name in names), default=0)
    return {shape: names for shape, names in groups.items() if names[0].count(".") == depth}, prefix


def _siblings(calls: list[Call]) -> dict[tuple[str, type, tuple[int, ...]], list[str]]:
    """Names of calls by what is before their number (``blocks.``, ``layers.layer_``), class and shape."""
    groups: dict[tuple[str, type, tuple[int, ...]], list[str]] = defaultdict(list)
    for call in calls:
        family = re.sub(r"\d+$", "", call.name)
        if family != call.name and call.name not in groups[family, call.kind, call.shape]:
            groups[family, call.kind, call.shape].append(call.name)
    return groups


def _depth(name: str) -> int:
    """How deep a module lies; the number of a container's child stands for no depth, but for one within a numbered child."""
    parts = name.split(".")
    within = sum(one.isdigit() and other.isdigit() for one, other in itertools.pairwise(parts))
    return sum(not part.isdigit() for part in parts) + within


def _prefix_of(length: int, told: int) -> int | None:
    """Tokens in front of a square grid: as told, or the fewest that leave a square of more than one place."""
    for extra in [told] if told else range(_MOST_PREFIX + 1):
        side = round(max(length - extra, 0) ** 0.5)
        if side > 1 and side * side == length - extra:
            return extra
    return None


def _side(shape: tuple[int, ...]) -> tuple[int, int] | None:
    if len(shape) != 4 or shape[0] != 2:
        return None
    return (shape[1], shape[2]) if layout_of(shape) == NHWC else (shape[2], shape[3])


def _linear(found: Trace, num_classes: int) -> list[str]:
    calls = {call.name: call.kind for call in found.calls}
    return [
        key
        for key, (_, logits) in found.vectors.items()
        if logits.shape[1] == num_classes and issubclass(calls[key], nn.Linear)
    ]


def _image(network: nn.Module, shape: tuple[int, ...]) -> Tensor:
    like = next(network.parameters(), None)
    return torch.zeros(shape) if like is None else torch.zeros(shape, device=like.device, dtype=like.dtype)


def _among(names: list[str], words: str = "candidates:") -> str:
    rest = ", ..." if len(names) > _MOST_NAMED else ""
    return f" ({words} {', '.join(names[:_MOST_NAMED])}{rest})" if names else ""


def _shape(value: Any) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__


def _what(value: Any) -> str:
    """A tuple or mapping with the shapes of what is in it."""
    if isinstance(value, Mapping):
        return f"a {type(value).__name__} ({', '.join(f'{key}: {_shape(part)}' for key, part in value.items())})"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} ({', '.join(map(_shape, value))})"
    return f"a {type(value).__name__}"
