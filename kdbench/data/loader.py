"""The order of samples, and batches of augmented images."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kdbench.data.augmentation.augment import Augment, evaluation_images
from kdbench.data.augmentation.decode import CentreCut
from kdbench.data.prefetch import ahead
from kdbench.data.sets.files import FileSplit
from kdbench.data.source import Split
from kdbench.errors import ConfigError
from kdbench.random import permutation

log = logging.getLogger(__name__)
_CHUNK_PIXELS = 1024 * 32 * 32
_LEAST = 2  # samples of which batch statistics can be taken


@dataclass
class LoadedBatch:
    """Images and where they come from.

    Attributes:
        images: (B, 3, H, W) float in [0, 1].
        target: (B,) int64 labels; with mixup or cutmix (B, K) float.
        index: (B,) int64 position in the training set.
        draw: (B,) int64 position in the epoch's virtual set, ``repeat * N + index``.
        smoothing_included: labels are soft and smoothed already.
    """

    images: Tensor
    target: Tensor
    index: Tensor
    draw: Tensor
    smoothing_included: bool = False
    host_draw: Tensor | None = None


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
        views: number of augmented views that the epochs use in turn; 0 = every epoch its own.

    The last batch of an epoch is dropped where it would leave a process with fewer than two samples, of which no batch
    statistics can be taken; how many processes there are can therefore decide over it.

    Raises:
        ConfigError: mixup or cutmix with an odd batch size, which would tear pairs apart; a process that would get nothing of a
            batch; or no batch at all.
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
        views: int = 0,
    ) -> None:
        self.views = views
        self.split, self.batch_size, self.seed, self.aug_seed = split, batch_size, seed, aug_seed
        self.augment, self.repeat, self.device = augment, repeat, torch.device(device)
        self.rank, self.world, self.workers = rank, world, workers
        self.total = len(split) * repeat
        # On a CPU a worker does all; with a GPU it reads and decodes, and the batch is augmented on the device.
        self._early = self.device.type == "cpu"
        if augment.mixes and batch_size % 2:
            raise ConfigError(f"AUGMENT.MIXUP and AUGMENT.CUTMIX need an even SOLVER.BATCH_SIZE, got {batch_size}")
        full, rest = divmod(self.total, batch_size)
        if full and self._least(batch_size) < 1:
            raise ConfigError(
                f"SOLVER.BATCH_SIZE {batch_size} over {world} processes leaves one of them without samples (each takes whole "
                "pairs); make it at least twice as many"
            )
        self._steps = full + (self._least(rest) >= _LEAST)
        if rest and self._steps == full:
            log.info(
                "the last batch of each epoch (%d samples over %d processes) is too small and is dropped", rest, world
            )
        if not self._steps:
            raise ConfigError(f"{self.total} training images make no batch over {world} processes")

    def __len__(self) -> int:
        return self._steps

    @property
    def smallest(self) -> int:
        """Number of samples in the smallest part of a batch that any process gets."""
        return min(self._least(self._size(step)) for step in (0, self._steps - 1))

    def weight(self, step: int) -> float:
        """What a mean over this process's part of a step's batch counts in the plain mean over all processes: its samples over
        the mean number of samples of a process."""
        first, last = self._share(step)
        return (last - first) * self.world / self._size(step)

    def order(self, epoch: int) -> Tensor:
        """(total,) int64 draws of an epoch, in order."""
        return permutation(self.seed, "order", epoch, self.total)

    def view(self, epoch: int) -> int:
        """The augmented view (counted from 1) that an epoch sees."""
        return (epoch - 1) % self.views + 1 if self.views else epoch

    def epoch(self, epoch: int) -> Iterator[LoadedBatch]:
        """The batches of an epoch (counted from 1)."""
        view = self.view(epoch)
        # Who is mixed with whom follows from the order, so that a view of mixed images brings its order along.
        order = self.order(view if self.augment.mixes else epoch)
        epoch = view

        def prepare(steps: list[int]) -> _Chunk:
            rows = [self._share(step) for step in steps]
            draw = torch.cat([order[first:last] for first, last in rows])
            chunk = _Chunk(draw, rows, self._read(draw, epoch))
            if self._early:
                chunk.batches = self._finish(chunk, epoch)
            elif self.device.type == "cuda":
                chunk.images = chunk.images.pin_memory()
            return chunk

        for chunk in ahead(prepare, self._chunks(), self.workers):
            yield from chunk.batches if self._early else self._finish(chunk, epoch)

    def load(self, draw: Tensor, epoch: int, start: int = 0) -> LoadedBatch:
        """One batch of given draws; the first stands at position ``start`` of the epoch's order (only mixing asks)."""
        return self._finish(_Chunk(draw, [(start, start + len(draw))], self._read(draw, epoch)), epoch)[0]

    def _chunks(self) -> list[list[int]]:
        """Steps that are prepared together: several where batches are so small that calls cost more than pixels."""
        pixels = self.batch_size * (self.augment.size or self.split.image_size) ** 2
        steps = 1 if isinstance(self.split, FileSplit) else max(1, _CHUNK_PIXELS // pixels)
        return [list(range(i, min(i + steps, len(self)))) for i in range(0, len(self), steps)]

    def _read(self, draw: Tensor, epoch: int) -> Tensor:
        index = draw % len(self.split)
        if isinstance(self.split, FileSplit):
            size = self.augment.size or self.split.image_size
            cut = self.augment.random_cut(self.aug_seed, epoch, draw, size) or CentreCut(size)
            return self.split.fetch_cut(index, cut)
        return self.split.fetch(index)

    def _finish(self, chunk: _Chunk, epoch: int) -> list[LoadedBatch]:
        index = chunk.draw % len(self.split)
        labels = self.split.labels[index].to(self.device)
        draw, index = chunk.draw.to(self.device), index.to(self.device)
        images = chunk.images.to(self.device, non_blocking=True)
        images = self.augment(images, self.aug_seed, epoch, draw, cut=not isinstance(self.split, FileSplit))
        result, done = [], 0
        for first, last in chunk.rows:
            part = slice(done, done + last - first)
            done = part.stop
            batch = LoadedBatch(images[part], labels[part], index[part], draw[part], self.augment.mixes)
            if self.augment.mixes:
                batch.images, batch.target = self.augment.mix(batch.images, batch.target, self.aug_seed, epoch, first)
            result.append(batch)
        return result

    def _share(self, step: int) -> tuple[int, int]:
        """First and last position of this rank's part of a step's batch."""
        start = step * self.batch_size
        first, last = self._part(self._size(step), self.rank)
        return start + first, start + last

    def _size(self, step: int) -> int:
        return min(self.batch_size, self.total - step * self.batch_size)

    def _part(self, size: int, rank: int) -> tuple[int, int]:
        pairs = (size + 1) // 2
        first, last = (2 * (pairs * r // self.world) for r in (rank, rank + 1))
        return min(first, size), min(last, size)

    def _least(self, size: int) -> int:
        """Samples of the process that gets the fewest of a batch of ``size``."""
        return min(last - first for first, last in (self._part(size, rank) for rank in range(self.world)))


@dataclass
class _Chunk:
    """A few batches on their way: draws, (first, last) position of each, and what is there of their images."""

    draw: Tensor
    rows: list[tuple[int, int]]
    images: Tensor
    batches: list[LoadedBatch] = field(default_factory=list)


def standard_crop_pct(split: Split) -> float:
    """What ``AUGMENT.CROP_PCT: 0`` stands for: 0.875 for image files, all of an image in memory."""
    return 0.875 if isinstance(split, FileSplit) else 1.0


def evaluation_batches(
    split: Split,
    batch_size: int,
    size: int,
    device: torch.device | str,
    rank: int = 0,
    world: int = 1,
    *,
    workers: int = 0,
    crop_pct: float = 0.0,
    interpolation: str = "bilinear",
) -> Iterator[tuple[Tensor, Tensor]]:
    """(images, labels) of a split in its own order, nothing drawn; every sample is seen by exactly one rank.

    Images are resized to ``size / crop_pct`` and cut in the centre; ``crop_pct`` 0 is 0.875 for image files, and 1 (all of
    it) for images in memory. ``size`` 0 leaves images in memory as they are.
    """
    positions = torch.arange(rank, len(split), world)
    in_files = isinstance(split, FileSplit)
    cut = CentreCut(size or split.image_size, crop_pct or standard_crop_pct(split), interpolation)

    def read(part: Tensor) -> Tensor:
        return split.fetch_cut(part, cut) if isinstance(split, FileSplit) else split.fetch(part)

    parts = positions.split(batch_size)
    for part, images in zip(parts, ahead(read, parts, workers)):
        there = images.to(device)
        done = there.float().div_(255.0) if in_files or not size else evaluation_images(there, cut)
        yield done, split.labels[part].to(device)
