"""A network as a sequence: stem, units, tail. What runs it stage by stage, or reads maps on the way.

It holds names and functions of modules' level and never a module, so that a copied or pickled network runs its own
weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Pieces:
    """How a backbone is run in pieces.

    Attributes:
        layout: ``NCHW``, ``NHWC`` or ``NLC``: what goes from unit to unit.
        begin: ``(backbone, x) -> x``, normalised image to the first unit's input.
        unit: ``(backbone, k, x) -> x``, unit ``k``.
        end: ``(backbone, x) -> features``, from the last unit's output to what ``forward_features`` returns.
        count: number of units.
        cuts: how many units have run at each chosen stage, increasing; ``count + 1`` stands for ``end`` as well.
        preact: ``(backbone, k, x) -> (x, map before the last activation)`` of unit ``k``; None where there is no such
            map.
        norms: names of the batch normalisation in front of each chosen stage's last activation; empty where one is
            missing.
        prefix_tokens: class and register tokens in front of the others.
    """

    layout: str
    begin: Callable[[Any, Tensor], Tensor]
    unit: Callable[[Any, int, Tensor], Tensor]
    end: Callable[[Any, Tensor], Tensor]
    count: int
    cuts: tuple[int, ...]
    preact: Callable[[Any, int, Tensor], tuple[Tensor, Tensor]] | None = None
    norms: tuple[str, ...] = ()
    prefix_tokens: int = 0

    def run(self, backbone: nn.Module, i: int, x: Tensor) -> Tensor:
        """From the previous chosen stage's output (i = 0: the stem's) to that of chosen stage ``i``."""
        return self._units(backbone, self.cuts[i - 1] if i else 0, self.cuts[i], x)

    def run_with_preact(self, backbone: nn.Module, i: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`run`, and the output before its last activation."""
        if self.preact is None:
            raise TypeError("this network has no map before the last activation")
        x = self._units(backbone, self.cuts[i - 1] if i else 0, self.cuts[i] - 1, x)
        return self.preact(backbone, self.cuts[i] - 1, x)

    def rest(self, backbone: nn.Module, x: Tensor) -> Tensor:
        """From the last chosen stage's output to the features that the head reads."""
        return self._units(backbone, self.cuts[-1], self.count + 1, x)

    def affine(self, backbone: nn.Module) -> tuple[Tensor, ...]:
        """(2, C) weight and bias of every one of :attr:`norms`, cut from the graph."""
        found: list[Any] = [backbone.get_submodule(name) for name in self.norms]
        return tuple(torch.stack((bn.weight, bn.bias)).detach() for bn in found)

    def _units(self, backbone: nn.Module, first: int, last: int, x: Tensor) -> Tensor:
        for k in range(first, min(last, self.count)):
            x = self.unit(backbone, k, x)
        return self.end(backbone, x) if first <= self.count < last else x
