"""How fast images are prepared, against the usual way: PIL images, torchvision's or timm's transforms, a DataLoader.

Both ways run in turn in one process, on the same images, with the same number of workers, so that a ratio means
something on a machine that is busy with other things as well.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import timm.data.auto_augment as timm_ops
import torch
from PIL import Image
from timm.data.random_erasing import RandomErasing
from timm.data.transforms import RandomResizedCropAndInterpolation
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as T

from kdbench.data.augmentation.augment import Augment
from kdbench.data.loader import TrainLoader
from kdbench.data.malloc import tune_malloc
from kdbench.data.source import IMAGENET_STATISTICS, MemorySplit

_POLICY = "rand-m9-mstd0.5-inc1"


@dataclass(frozen=True)
class _Case:
    name: str
    target: float  # the ratio that is asked for
    augment: Augment
    transforms: Callable[[], list[Any]]  # PIL to PIL, then those after the tensor
    batch: int
    images: int
    after: Callable[[], list[Any]] = list


def _timm_policy() -> Any:
    """timm's policy, kept from asking for 0 bits: PIL 13 raises there."""
    policy = timm_ops.rand_augment_transform(_POLICY, {"translate_const": 100, "img_mean": (124, 116, 104)})
    for op in policy.ops:
        if op.name == "PosterizeIncreasing":
            op.level_fn = lambda level, _: (max(1, 4 - int(level / 10.0 * 4)),)
    return policy


_CASES = (
    _Case(
        "32 pad-crop + flip",
        15.0,
        Augment("pad", 4, 0.5),
        lambda: [T.RandomCrop(32, 4), T.RandomHorizontalFlip()],
        batch=128,
        images=8192,
    ),
    _Case(
        "32 -> 224 crop, flip, resize",
        5.0,
        Augment("pad", 4, 0.5, size=224),
        lambda: [T.RandomCrop(32, 4), T.RandomHorizontalFlip(), T.Resize(224)],
        batch=64,
        images=1024,
    ),
    _Case(
        "RandomResizedCrop 224 + flip",
        3.0,
        Augment("rrc", 0, 0.5, interpolation="random", size=224),
        lambda: [RandomResizedCropAndInterpolation(224, interpolation="random"), T.RandomHorizontalFlip()],
        batch=64,
        images=1024,
    ),
    _Case(
        "RandomResizedCrop 224 + flip + RandAugment + erasing",
        1.5,
        Augment("rrc", 0, 0.5, interpolation="random", size=224, auto=_POLICY, erase=0.25),
        lambda: [
            RandomResizedCropAndInterpolation(224, interpolation="random"),
            T.RandomHorizontalFlip(),
            _timm_policy(),
        ],
        batch=64,
        images=768,
        after=lambda: [RandomErasing(0.25, mode="pixel", device="cpu")],
    ),
)


class _PilImages(Dataset[tuple[torch.Tensor, int]]):
    def __init__(self, images: np.ndarray, transform: Callable[[Image.Image], torch.Tensor]) -> None:
        self._images, self._transform = images, transform

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, position: int) -> tuple[torch.Tensor, int]:
        return self._transform(Image.fromarray(self._images[position])), 0


def _rate(batches: Iterator[Any], size: Callable[[Any], int]) -> float:
    """Images a second, from the first batch on (starting workers is not counted)."""
    next(batches)
    start, count = time.perf_counter(), 0
    for batch in batches:
        count += size(batch)
    return count / (time.perf_counter() - start)


def run(rounds: int = 3, workers: int = 2, scale: float = 1.0) -> list[dict[str, Any]]:
    """Measure the four pipelines on synthetic 32x32 images.

    Args:
        rounds: of both ways in turn; medians are given.
        workers: of both: processes there, threads here.
        scale: of the number of images.

    Returns:
        A row a pipeline: name, images a second of both ways, their ratio, the ratio that is asked for.
    """
    tune_malloc()
    rows = []
    for case in _CASES:
        count = max(3 * case.batch, int(case.images * scale))
        images = _images(count)
        split = MemorySplit(images, torch.zeros(count, dtype=torch.int64))
        mean, std = IMAGENET_STATISTICS
        steps = [*case.transforms(), T.ToTensor(), T.Normalize(mean, std), *case.after()]
        # Python's time a batch is the same however many there are, so the quick side may see its images several times.
        repeat = 4
        peer = _PilImages(images.permute(0, 2, 3, 1).contiguous().numpy(), T.Compose(steps))
        ours, theirs = [], []
        for number in range(rounds):
            loader = TrainLoader(
                split, batch_size=case.batch, seed=0, aug_seed=0, augment=case.augment, repeat=repeat, workers=workers
            )
            ours.append(_rate(loader.epoch(number + 1), lambda batch: len(batch.images)))
            usual = DataLoader(peer, batch_size=case.batch, shuffle=True, num_workers=workers)
            theirs.append(_rate(iter(usual), lambda batch: len(batch[0])))
        ratios = [a / b for a, b in zip(ours, theirs)]
        rows.append(
            {
                "pipeline": case.name,
                "images/s": round(statistics.median(ours)),
                "usual images/s": round(statistics.median(theirs)),
                "ratio": round(statistics.median(ratios), 2),
                "asked for": case.target,
            }
        )
    return rows


def _images(count: int) -> torch.Tensor:
    """(N, 3, 32, 32) uint8, as smooth as photographs: noise would be kind to no histogram operation."""
    small = torch.randint(0, 256, (count, 3, 8, 8), generator=torch.Generator().manual_seed(0)).float()
    large = torch.nn.functional.interpolate(small, (32, 32), mode="bicubic", align_corners=False)
    return large.clamp(0, 255).to(torch.uint8)
