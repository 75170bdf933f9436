"""Further looks at a training image, beside the one that every method sees: other draws, and sometimes more than the run's own
augmentation.

What is drawn for a look is a function of (seed, epoch, sample, look), so that a look is the same whichever others there are.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from kdbench.data.augmentation.augment import Augment
from kdbench.data.augmentation.erase import cutout
from kdbench.data.augmentation.policies.policy_plan import PolicyPlan
from kdbench.random import CounterRNG

#: two operations of RandAugment, always done, each of a strength that is uniform over its range
_STRONG = "rand-m10-n2-p1-mstd101"
#: longest side of the square that is cut out, of the image's
_CUTOUT = 0.5


@dataclass(frozen=True)
class Look(Augment):
    """What is done to a training batch for one look.

    Attributes:
        look: its name, which keys its draws.
        same: streams that it draws as the images that every method sees do.
        turns: quarter turns, anticlockwise, at the end.
        cutout: longest side of a square that is filled with the mean colour at the end, as a share of the image's; 0 = off.
    """

    look: str = ""
    same: tuple[str, ...] = ()
    turns: int = 0
    cutout: float = 0.0

    def __call__(
        self,
        images: Tensor,
        seed: int,
        epoch: int,
        draw: Tensor,
        *,
        cut: bool = True,
        plan: PolicyPlan | None = None,
    ) -> Tensor:
        """See :meth:`Augment.__call__`."""
        result = super().__call__(images, seed, epoch, draw, cut=cut, plan=plan)
        if self.cutout > 0:
            result = cutout(result, self.streams(seed, epoch, draw)("cutout"), self.cutout, self.statistics)
        return torch.rot90(result, self.turns, (2, 3)) if self.turns else result

    def streams(self, seed: int, epoch: int, draw: Tensor) -> Callable[[str], CounterRNG]:
        """See :meth:`Augment.streams`."""
        own = super().streams(seed, epoch, draw)
        return lambda stream: own(stream if stream in self.same else f"{self.look}/{stream}")


def _strong(base: Augment) -> Look:
    return _made(base, look="strong", auto=_STRONG, color_jitter=0.0, erase=0.0, cutout=_CUTOUT)


def _turned(base: Augment, name: str, turns: int) -> Look:
    return _made(base, look=name, same=("flip",), turns=turns)


def _made(base: Augment, **changed: Any) -> Look:
    """The run's augmentation with other values; of pairs that are mixed a look knows nothing."""
    values = {part.name: getattr(base, part.name) for part in fields(Augment)}
    return Look(**{**values, "mixup": 0.0, "cutmix": 0.0, **changed})


#: What a method may ask for, by name, made from the run's augmentation. ``strong``: crop and flip as configured, drawn anew, then
#: RandAugment and a square that is cut out. ``rot90`` to ``rot270``: crop drawn anew, the same flip, then a rotation.
LOOKS: dict[str, Callable[[Augment], Look]] = {
    "strong": _strong,
    **{f"rot{90 * turns}": functools.partial(_turned, name=f"rot{90 * turns}", turns=turns) for turns in (1, 2, 3)},
}
