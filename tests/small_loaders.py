"""Loaders of a few images in memory, with every augmentation."""

from __future__ import annotations

import torch

from kdbench.data.augmentation.augment import Augment
from kdbench.data.loader import TrainLoader
from kdbench.data.source import MemorySplit

RICH = Augment(
    "rrc",
    0,
    0.5,
    interpolation="random",
    size=40,
    auto="rand-m9-mstd0.5-inc1",
    erase=0.5,
    mixup=0.8,
    cutmix=1.0,
    num_classes=5,
    smoothing=0.1,
)
AUGMENTS = {
    "pad": Augment("pad", 4, 0.5),
    "pad-enlarged": Augment("pad", 4, 0.5, size=48),
    "jitter": Augment("none", 0, 0.5, size=32, color_jitter=0.4, erase=0.3),
    "cifar": Augment("pad", 2, 0.5, auto="cifar"),
    "rrc": Augment("rrc", 0, 0.5, size=40),
    "rich": RICH,
}


def memory(count: int = 70) -> MemorySplit:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return MemorySplit(images, torch.arange(count) % 5)


def loader(split, augment, **options) -> TrainLoader:
    return TrainLoader(split, **{"batch_size": 8, "seed": 1, "aug_seed": 2, "augment": augment, **options})
