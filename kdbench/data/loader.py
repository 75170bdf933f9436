"""The order of samples, and batches of augmented images."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from kdbench.data.augment import Augment, evaluation_images
from kdbench.data.source import Split
from kdbench.random import permutation

log = logging.getLogger(__name__)


@dataclass
class LoadedBatch:
    """Images and where they come from.

    Attributes:
        images: (B, 3, H, W) float in [0, 1].
        labels: (B,) int64.
        index: (B,) int64 position in the training set.
        draw: (B,) int64 position in the epoch's virtual set, ``repeat * N + index``.
    """

    images: Tensor
    labels: Tensor
    index: Tensor
    draw: Tensor


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
    ) -> None:
        self.split, self.batch_size, self.seed, self.aug_seed = split, batch_size, seed, aug_seed
        self.augment, self.repeat, self.device = augment, repeat, torch.device(device)
        self.rank, self.world = rank, world
        self.total = len(split) * repeat
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
        for step in range(len(self)):
            draw = order[step * self.batch_size : (step + 1) * self.batch_size]
            yield self.load(self._share(draw), epoch)

    def load(self, draw: Tensor, epoch: int) -> LoadedBatch:
        """One batch of given draws."""
        index = draw % len(self.split)
        images = self.split.fetch(index).to(self.device, non_blocking=True)
        draw_there = draw.to(self.device)
        images = self.augment(images, self.aug_seed, epoch, draw_there)
        return LoadedBatch(images, self.split.labels[index].to(self.device), index.to(self.device), draw_there)

    def _share(self, draw: Tensor) -> Tensor:
        if self.world == 1:
            return draw
        pairs = (len(draw) + 1) // 2
        first, last = (2 * (pairs * r // self.world) for r in (self.rank, self.rank + 1))
        return draw[first:last]


def evaluation_batches(
    split: Split, batch_size: int, size: int, device: torch.device | str, rank: int = 0, world: int = 1
) -> Iterator[tuple[Tensor, Tensor]]:
    """(images, labels) of a split in its own order, nothing drawn; every sample is seen by exactly one rank."""
    positions = torch.arange(rank, len(split), world)
    for part in positions.split(batch_size):
        yield evaluation_images(split.fetch(part).to(device), size), split.labels[part].to(device)
