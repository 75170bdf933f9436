"""Sizes of the data sets that come with kdbench, for what must be known of them without having them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: classes, side and training images
DATASETS: dict[str, tuple[int, int, int]] = {
    "cifar10": (10, 32, 50_000),
    "cifar100": (100, 32, 50_000),
    "imagenet": (1000, 224, 1_281_167),
    "cub200": (200, 224, 5_994),
    "aircraft": (100, 224, 6_667),
    "digits": (10, 8, 1_297),
}


def image_side(node: Mapping[str, Any]) -> int:
    """Side of the images that a ``DATASET`` node gives; 0 where it is not known."""
    if node["IMAGE_SIZE"]:
        return int(node["IMAGE_SIZE"])
    kind = str(node["TYPE"]).casefold()
    if kind == "fake":
        return int(dict(node["OPTIONS"] or {}).get("size", 32))
    return DATASETS[kind][1] if kind in DATASETS else 0
