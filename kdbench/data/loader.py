"""The order of samples, and batches of augmented images."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from kdbench.data.augment import Augment, evaluation_images
from kdbench.data.decode import CentreCut
from kdbench.data.files import FileSplit
from kdbench.data.prefetch import ahead
from kdbench.data.source import Split
from kdbench.errors import ConfigError
from kdbench.random import permutation

log = logging.getLogger(__name__)


@dataclass
class LoadedBatch:
    """Images and where they come from.

    Attributes:
        images: (B, 3, H, W) float in [0, 1].
        labels: (B,) int64; with mixup or cutmix (B, K) float.
        index: (B,) int64 position in the training set.
        draw: (B,) int64 position in the epoch's virtual set, ``repeat * N + index``.
        smoothing_included: labels are soft and smoothed already.
    """

    images: Tensor
    labels: Tensor
    index: Tensor
    draw: Tensor
    smoothing_included: bool = False


class TrainLoader:
    """Batches of one epoch: their order is a function of (seed, epoch), each image one of (aug_seed, epoch, draw).

    Args:
        split: the training split.
        batch_size: over all ranks.
        seed: of the order.
        aug_seed: of the augmentation.
        augment: the augmentation.
        repeat: passes over the split that make one epoch.
        device: where images are augmented.
        rank, world: this process, of how many; each takes a contiguous part of every batch, whole pairs of positions.
        workers: threads that prepare batches in advance; 0 = none. They change nothing but the time.

    Raises:
        ConfigError: mixup or cutmix with an odd batch size, which would tear pairs apart.
    """

    def __init__(
        self,
        split: Split,
        *,
        batch_size: int,
        seed: int,
        aug_seed: int,
        augment: Augment,
        repeat: int = 1,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
    ) -> None:
        self.split, self.batch_size, self.seed, self.aug_seed = split, batch_size, seed, aug_seed
        self.augment, self.repeat, self.device = augment, repeat, torch.device(device)
        self.rank, self.world, self.workers = rank, world, workers
        self.total = len(split) * repeat
        if augment.mixes and batch_size % 2:
            raise ConfigError(f"AUGMENT.MIXUP and AUGMENT.CUTMIX need an even SOLVER.BATCH_SIZE, got {batch_size}")
        if self.total % batch_size == 1 and self.total > 1:
            log.info("the last batch of each epoch would hold one sample and is dropped")

    def __len__(self) -> int:
        full, rest = divmod(self.total, self.batch_size)
        return full + (rest > 1)

    @property
    def smallest(self) -> int:
        """Size of the smallest batch, over all ranks."""
        rest = self.total % self.batch_size
        return rest if rest > 1 else min(self.batch_size, self.total)

    def order(self, epoch: int) -> Tensor:
        """(total,) int64 draws of an epoch, in order."""
        return permutation(self.seed, "order", epoch, self.total)

    def epoch(self, epoch: int) -> Iterator[LoadedBatch]:
        """The batches of an epoch (counted from 1)."""
        order = self.order(epoch)
        # On a CPU a worker does all; with a GPU it reads and decodes, and the batch is augmented on the device.
        early = self.device.type == "cpu"

        def prepare(step: int) -> tuple[Tensor, int, Tensor | LoadedBatch]:
            first, last = self._share(len(order[step * self.batch_size : (step + 1) * self.batch_size]))
            start = step * self.batch_size + first
            draw = order[start : start + last - first]
            if early:
                return draw, start, self.load(draw, epoch, start)
            images = self._read(draw, epoch)
            return draw, start, images.pin_memory() if self.device.type == "cuda" else images

        for draw, start, ready in ahead(prepare, range(len(self)), self.workers):
            yield ready if isinstance(ready, LoadedBatch) else self._finish(ready, draw, epoch, start)

    def load(self, draw: Tensor, epoch: int, start: int = 0) -> LoadedBatch:
        """One batch of given draws, whose first stands at position ``start`` of the epoch's order (only mixing asks)."""
        return self._finish(self._read(draw, epoch), draw, epoch, start)

    def _read(self, draw: Tensor, epoch: int) -> Tensor:
        index = draw % len(self.split)
        if isinstance(self.split, FileSplit):
            size = self.augment.size or self.split.image_size
            cut = self.augment.random_cut(self.aug_seed, epoch, draw, size) or CentreCut(size)
            return self.split.fetch_cut(index, cut)
        return self.split.fetch(index)

    def _finish(self, images: Tensor, draw: Tensor, epoch: int, start: int) -> LoadedBatch:
        index = draw % len(self.split)
        labels = self.split.labels[index].to(self.device)
        images, there = images.to(self.device, non_blocking=True), draw.to(self.device)
        images = self.augment(images, self.aug_seed, epoch, there, cut=not isinstance(self.split, FileSplit))
        if self.augment.mixes:
            images, labels = self.augment.mix(images, labels, self.aug_seed, epoch, start)
        return LoadedBatch(images, labels, index.to(self.device), there, self.augment.mixes)

    def _share(self, size: int) -> tuple[int, int]:
        """First and last row of this rank's part of a batch of ``size``."""
        if self.world == 1:
            return 0, size
        pairs = (size + 1) // 2
        first, last = (2 * (pairs * r // self.world) for r in (self.rank, self.rank + 1))
        return min(first, size), min(last, size)


def evaluation_batches(
    split: Split,
    batch_size: int,
    size: int,
    device: torch.device | str,
    rank: int = 0,
    world: int = 1,
    *,
    workers: int = 0,
    crop_pct: float = 0.875,
) -> Iterator[tuple[Tensor, Tensor]]:
    """(images, labels) of a split in its own order, nothing drawn; every sample is seen by exactly one rank.

    Images in memory are resized to ``size``; image files are resized to ``size / crop_pct`` and cut in the centre.
    """
    positions = torch.arange(rank, len(split), world)

    def read(part: Tensor) -> Tensor:
        if isinstance(split, FileSplit):
            return split.fetch_cut(part, CentreCut(size or split.image_size, crop_pct))
        return split.fetch(part)

    parts = positions.split(batch_size)
    for part, images in zip(parts, ahead(read, parts, workers)):
        there = images.to(device)
        done = there.float().div_(255.0) if isinstance(split, FileSplit) else evaluation_images(there, size)
        yield done, split.labels[part].to(device)
