"""RandAugment (timm's strings) and AutoAugment (torchvision's CIFAR-10 policy): what each sample drew.

A policy says for each of its layers what every sample does; :mod:`kdbench.data.augmentation.policies.policy_plan` does it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Protocol

import torch
from torch import Tensor
from torchvision.transforms.autoaugment import AutoAugment, AutoAugmentPolicy

from kdbench.errors import ConfigError
from kdbench.random import CounterRNG

Streams = Callable[[str], CounterRNG]
_LEVELS = 10.0  # timm's _LEVEL_DENOM
_SIGNED = ("Rotate", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel")
_ENHANCE = ("Color", "Contrast", "Brightness", "Sharpness")


@dataclass
class Layer:
    """What each sample of a batch does in one layer.

    Attributes:
        op: (B,) int64 index into the policy's names.
        applied: (B,) bool.
        level: (B,) float strength, in the policy's own unit.
        negative: (B,) bool, the other direction for operations that have one.
        cubic: (B,) bool, geometric operations are bicubic instead of the policy's mode.
    """

    op: Tensor
    applied: Tensor
    level: Tensor
    negative: Tensor
    cubic: Tensor


class Policy(Protocol):
    """Draws layers, in the host's memory, and turns a level into an operation's argument."""

    @property
    def names(self) -> tuple[str, ...]:
        """The operations."""
        ...

    @property
    def mode(self) -> str:
        """Interpolation of geometric operations."""
        ...

    def draw(self, streams: Streams) -> list[Layer]:
        """The layers of a batch."""
        ...

    def argument(self, name: str, layer: Layer, chosen: Tensor, side: int) -> Tensor:
        """(G,) arguments of operation ``name`` for the samples ``chosen`` of images of that side."""
        ...


@dataclass(frozen=True)
class RandAugment:
    """Cubuk et al., *RandAugment*, 2020, as timm (1.0.31, auto_augment.py) reads ``rand-m9-mstd0.5-inc1``.

    Attributes:
        magnitude: ``m``, the level, 0..10.
        std: ``mstd``, its standard deviation over samples; infinite = uniform in [0, m].
        layers: ``n``, operations a sample, each drawn from all 15 with replacement.
        prob: ``p``, probability that a layer does something.
        increasing: ``inc``, operations grow stronger with the level.
        maximum: ``mmax``, where levels are cut off.
        interpolation: of geometric operations: ``bilinear``, ``bicubic``, or ``random``: one of them for each operation,
            as timm does where the crop's interpolation is random.
    """

    magnitude: float = 10.0
    std: float = 0.0
    layers: int = 2
    prob: float = 0.5
    increasing: bool = False
    maximum: float = _LEVELS
    interpolation: str = "bilinear"
    mode: str = "bilinear"
    names: tuple[str, ...] = (
        "AutoContrast", "Equalize", "Invert", "Rotate", "Posterize", "Solarize", "SolarizeAdd", "Color", "Contrast",
        "Brightness", "Sharpness", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel",
    )  # fmt: skip

    @classmethod
    def parse(cls, text: str, interpolation: str = "bilinear") -> RandAugment:
        """From timm's string.

        Raises:
            ConfigError: a section that is none of m, n, p, mstd, mmax, inc.
        """
        read = {"m": "magnitude", "n": "layers", "p": "prob", "mstd": "std", "mmax": "maximum", "inc": "increasing"}
        values: dict[str, float] = {}
        for section in text.split("-")[1:]:
            match = re.fullmatch(r"([a-z]+)(\d+(?:\.\d+)?|inf)", section)
            if match is None or match[1] not in read:
                raise ConfigError(
                    f"AUGMENT.AUTO: {text!r}: {section!r} is none of m, n, p, mstd, mmax, inc followed by a number"
                )
            values[read[match[1]]] = float(match[2])
        if values.get("std", 0.0) > 100:
            values["std"] = math.inf
        layers, increasing = int(values.pop("layers", 2)), bool(values.pop("increasing", 0))
        return cls(layers=layers, increasing=increasing, interpolation=interpolation, **values)  # type: ignore[arg-type]

    def draw(self, streams: Streams) -> list[Layer]:
        rng = streams("rand")
        u = rng.uniform(4 * self.layers).view(-1, self.layers, 4).unbind(1)
        if 0.0 < self.std < math.inf:
            noise = streams("rand-magnitude").normal(self.layers) * self.std + self.magnitude
        elif self.std:
            noise = torch.stack([layer[:, 3] for layer in u], dim=1) * self.magnitude
        else:
            noise = torch.full((len(rng.index), self.layers), self.magnitude)
        levels = noise.clamp(0.0, self.maximum)
        if self.interpolation == "random":
            cubic = streams("rand-interpolation").uniform(self.layers) < 0.5
        else:
            cubic = torch.full_like(levels, self.interpolation == "bicubic", dtype=torch.bool)
        return [
            Layer(
                (part[:, 0] * len(self.names)).long(),
                part[:, 1] < self.prob,
                levels[:, i],
                part[:, 2] < 0.5,
                cubic[:, i],
            )
            for i, part in enumerate(u)
        ]

    def argument(self, name: str, layer: Layer, chosen: Tensor, side: int) -> Tensor:
        level = layer.level[chosen].double() / _LEVELS
        signed = torch.where(layer.negative[chosen], -level, level)
        if name in _SIGNED:
            return signed * (30.0 if name == "Rotate" else 0.3 if name.startswith("Shear") else 0.45)
        if name in _ENHANCE:
            return ((1.0 + signed * 0.9).clamp_min(0.1) if self.increasing else level * 1.8 + 0.1).float()
        if name == "SolarizeAdd":
            return (level * 110.0).floor().clamp_max(128.0)
        if name == "Posterize":
            bits = (level * 4.0).floor()
            return 4.0 - bits if self.increasing else bits
        if name == "Solarize":
            threshold = (level * 256.0).floor().clamp_max(256.0)
            return 256.0 - threshold if self.increasing else threshold
        return level


@dataclass(frozen=True)
class CifarPolicy:
    """AutoAugment's CIFAR-10 policy (Cubuk et al., CVPR 2019) as in torchvision: nearest neighbour, black outside."""

    mode: str = "nearest"
    names: tuple[str, ...] = (
        "AutoContrast", "Equalize", "Invert", "Rotate", "Posterize", "Solarize", "Color", "Contrast", "Brightness",
        "Sharpness", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel",
    )  # fmt: skip

    @cached_property
    def _table(self) -> Tensor:
        """(25, 2, 3): operation, probability and magnitude of each sub-policy's layers."""

        def row(op: str, prob: float, level: int | None) -> tuple[float, float, float]:
            return self.names.index(op + "Rel" * op.startswith("Translate")), prob, level or 0

        policies = AutoAugment(AutoAugmentPolicy.CIFAR10).policies
        return torch.tensor([[row(*part) for part in pair] for pair in policies], dtype=torch.float32)

    def draw(self, streams: Streams) -> list[Layer]:
        u = streams("auto").uniform(5)
        rows = self._table[(u[:, 0] * len(self._table)).long()]
        never = torch.zeros(len(u), dtype=torch.bool)
        return [
            Layer(rows[:, i, 0].long(), u[:, 1 + i] <= rows[:, i, 1], rows[:, i, 2], u[:, 3 + i] < 0.5, never)
            for i in (0, 1)
        ]

    def argument(self, name: str, layer: Layer, chosen: Tensor, side: int) -> Tensor:
        level = layer.level[chosen].double() / 9.0  # ten steps
        signed = torch.where(layer.negative[chosen], -level, level)
        if name.startswith("Translate"):
            return (signed * (150.0 / 331.0 * side)).trunc() / side
        if name in _SIGNED:
            return signed * (30.0 if name == "Rotate" else 0.3)
        if name in _ENHANCE:
            return (1.0 + signed * 0.9).float()
        if name == "Posterize":
            return 8.0 - (level * 4.0).round()
        return 255.0 - level * 255.0 if name == "Solarize" else level


@lru_cache(maxsize=8)
def make_policy(text: str, interpolation: str = "bilinear") -> Policy | None:
    """The policy of ``AUGMENT.AUTO``: nothing, ``rand-...`` or ``cifar``; RandAugment's geometry takes the crop's
    ``interpolation``, as in timm.

    Raises:
        ConfigError: none of these.
    """
    if not text:
        return None
    if text == "cifar":
        return CifarPolicy()
    if text.split("-")[0] == "rand":
        return RandAugment.parse(text, interpolation)
    raise ConfigError(f"AUGMENT.AUTO: {text!r} is neither 'rand-...', as in rand-m9-mstd0.5-inc1, nor 'cifar'")
