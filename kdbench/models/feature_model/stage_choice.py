"""Which of a network's maps are its stages.

By default (``auto``): of a pyramid the last four maps (three where it has three), never the stem; of an isotropic
network of depth L (ViT, Mixer) the maps after blocks ceil(qL/4), q = 1..4. Other choices are data.
"""

from __future__ import annotations

import fnmatch
import itertools
import math
import re
from collections.abc import Sequence
from typing import Any

from torch import nn

from kdbench.errors import ModelError, did_you_mean

#: Stands for the final feature map (what the head pools), where an index of timm's intermediates is expected.
FINAL = -1
_MOST = 4
_STEM = re.compile(r"^(stem|conv1|conv_stem|act1|bn1|maxpool|features\.conv0|features\.0)\b")

#: Choices of published projects, by pattern of the network's own (timm) name.
NAMED: dict[str, dict[str, tuple[int, ...]]] = {
    # Hao et al., NeurIPS 2023: OFAKD@f7bb896. MobileNetV2's last is the 1280-channel head output.
    "ofakd": {
        "mobilenetv2_100*": (1, 2, 3, FINAL),
        "*vit_small*": (1, 3, 9, 11),
        "*vit_base*": (1, 3, 9, 11),
        "*deit_tiny*": (1, 3, 9, 11),
        "*beitv2_base*": (1, 3, 9, 11),
        "*beitv2_large*": (1, 3, 21, 23),
        "*mixer_b16*": (1, 3, 9, 11),
        "*resmlp_12*": (1, 3, 9, 11),
        "resnet*": (1, 2, 3, 4),
        "convnext*": (0, 1, 2, 3),
        "swin*": (0, 1, 2, 3),
        "mobilenetv1": (0, 1, 2, 3),
        "mobilenetv1_*": (1, 2, 3, 4),
    },
}


def choose_stages(backbone: nn.Module, name: str, choice: str | Sequence[int]) -> tuple[int, ...]:
    """Indices into the backbone's intermediates, shallow to deep; empty where it has no feature interface.

    Raises:
        ModelError: the choice names a map that the network does not have, or not from shallow to deep.
    """
    info = _feature_info(backbone)
    if not info or not hasattr(backbone, "forward_intermediates"):
        if choice != "auto":
            raise ModelError(f"{name} has no intermediate maps, so STAGES {choice!r} cannot be taken from it")
        return ()
    if choice == "auto":
        return _auto(info)
    if isinstance(choice, str):
        config: Any = getattr(backbone, "pretrained_cfg", None) or {}
        return _named(name, str(config.get("architecture", "")), choice, len(info))
    bad = [i for i in choice if not isinstance(i, int) or not (i == FINAL or 0 <= i < len(info))]
    if bad or not choice:
        raise ModelError(f"{name} has stages 0 to {len(info) - 1} (and -1, the final map), not {bad or 'none'}")
    order = [len(info) if i == FINAL else i for i in choice]
    if any(a >= b for a, b in itertools.pairwise(order)):
        raise ModelError(
            f"STAGES of {name} go from shallow to deep (-1, the final map, is the last), not {list(choice)}"
        )
    return tuple(choice)


def _named(name: str, architecture: str, choice: str, count: int) -> tuple[int, ...]:
    if choice not in NAMED:
        near = did_you_mean(choice, [*NAMED, "auto"])
        raise ModelError(f"STAGES {choice!r} is unknown{near}; it is auto, {', '.join(NAMED)} or indices")
    bare = name.rpartition(":")[2].lower()
    for pattern, indices in NAMED[choice].items():
        fits = fnmatch.fnmatch(bare, pattern) or fnmatch.fnmatch(architecture, pattern)
        if fits and max(indices) < count:
            return indices
    raise ModelError(f"STAGES {choice!r} says nothing about {name}; give the indices of its stages (0 to {count - 1})")


def _auto(info: list[dict[str, Any]]) -> tuple[int, ...]:
    count = len(info)
    reductions = {entry.get("reduction") for entry in info}
    if len(reductions) == 1 and count > 1:
        return tuple(quarters(count))
    indices = list(range(count))
    if count > 1 and _STEM.match(str(info[0].get("module", ""))):
        indices = indices[1:]
    return tuple(indices[-_MOST:])


def quarters(count: int) -> list[int]:
    """Indices of the last of each quarter of ``count`` equal blocks; all of fewer than five."""
    return sorted({math.ceil(q * count / _MOST) - 1 for q in range(1, _MOST + 1)})


def without_stem(names: Sequence[str]) -> list[str]:
    """Module names, shallow to deep, without the first where that is a stem and others follow."""
    return list(names[1:] if len(names) > 1 and _STEM.match(names[0]) else names)


def _feature_info(backbone: nn.Module) -> list[dict[str, Any]]:
    info = getattr(backbone, "feature_info", None)
    if info is None:
        return []
    entries = info if isinstance(info, list) else getattr(info, "info", [])
    return [dict(entry) for entry in entries]
