"""What a training script's options, stored beside the weights, say of the network's input and classes."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from kdbench.models.spec import Statistics

_Three = tuple[float, float, float]
_LARGEST = 4096
#: options of OFAKD's script, and of any fork that distils
_OFAKD, _FORK = {"distiller", "teacher", "ofa_eps"}, {"distiller", "teacher"}
#: OFAKD@f7bb896, train.py
_OFAKD_CIFAR100 = ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))


@dataclass(frozen=True)
class Recorded:
    """Of a file of timm's ``train.py``, or of OFAKD's: what its ``args`` say.

    Attributes:
        statistics: ``(mean, std)`` of the input, or None.
        input_size: side of the images in pixels; 0 where it does not say.
        model: the architecture's name in timm, or empty.
        class_map: the file that gave the classes their order, or empty.
    """

    statistics: Statistics | None = None
    input_size: int = 0
    model: str = ""
    class_map: str = ""

    @classmethod
    def from_dict(cls, values: Any) -> Recorded:
        """The inverse of :func:`dataclasses.asdict`, after JSON; nothing is said where there is nothing."""
        if not isinstance(values, Mapping) or not values.keys() <= {field.name for field in fields(cls)}:
            return cls()
        stored = cls(**values)
        mean, std = stored.statistics or (None, None)
        return replace(stored, statistics=(tuple(mean), tuple(std))) if mean and std else stored


def recorded_options(content: Any) -> Recorded:
    """Read ``content["args"]`` (a Namespace or a mapping) as timm resolves it: an option that is None is the architecture's own.
    OFAKD's script puts its own statistics in the place of all others for CIFAR-100; what another fork for distillation does with
    an option that is None is not known. Whatever is missing or malformed counts as not said."""
    args = content.get("args") if isinstance(content, Mapping) else None
    if isinstance(args, argparse.Namespace):
        args = vars(args)
    if not isinstance(args, Mapping) or not {"mean", "std"} <= args.keys():
        return Recorded()
    model = next((m for m in (args.get("model"), args.get("arch"), content.get("arch")) if isinstance(m, str)), "")
    own = _architecture(model)
    mean: _Three | None
    std: _Three | None
    if args.get("dataset") == "cifar100" and args.keys() >= _OFAKD:
        mean, std = _OFAKD_CIFAR100
    else:
        known = own if args.keys() >= _OFAKD or not args.keys() & _FORK else {}
        mean, std = (_three(args.get(key) if args.get(key) is not None else known.get(key)) for key in ("mean", "std"))
    found = (mean, std) if mean and std and min(std) > 0 else None
    class_map = args.get("class_map")
    return Recorded(found, _side(args, own), model, class_map if isinstance(class_map, str) else "")


def _architecture(model: str) -> Mapping[str, Any]:
    if not model:
        return {}
    from timm.models import get_pretrained_cfg

    try:
        config = get_pretrained_cfg(model)
    except RuntimeError:
        return {}
    return config.to_dict() if config is not None else {}


def _three(value: Any) -> _Three | None:
    if not isinstance(value, (list, tuple)) or len(value) not in (1, 3):
        return None
    try:
        numbers = [float(v) for v in value if isinstance(v, (int, float))]
    except OverflowError:  # a whole number beyond all floats
        return None
    if len(numbers) < len(value) or not all(map(math.isfinite, numbers)):
        return None
    red, green, blue = numbers * (3 // len(value))
    return red, green, blue


def _side(args: Mapping[str, Any], own: Mapping[str, Any]) -> int:
    size = args.get("input_size")
    if isinstance(size, (list, tuple)) and len(size) == 3:
        side = size[-1] if size[-1] == size[-2] else 0
    elif args.get("img_size") is not None:
        side = args["img_size"]
    else:
        side = own.get("input_size", (0,))[-1]
    return side if isinstance(side, int) and not isinstance(side, bool) and 0 < side <= _LARGEST else 0
