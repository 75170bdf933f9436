"""The order of samples, and batches of augmented images."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kdbench.data.augmentation import forms
from kdbench.data.augmentation.augment import Augment, HostDraws, evaluation_images
from kdbench.data.augmentation.decode import CentreCut
from kdbench.data.augmentation.looks import LOOKS, Look
from kdbench.data.order import Order, Shares
from kdbench.data.prefetch import ahead
from kdbench.data.resident import resident
from kdbench.data.sets.files import CutSplit
from kdbench.data.source import Split
from kdbench.errors import ConfigError, IncompatibleError
from kdbench.transfer import beside, in_advance, pinned, send

log = logging.getLogger(__name__)
#: pixels of the batches that are augmented together; a GPU takes hundreds of launches for them, however many they are, and some
#: multiples of the 50 MB that this many have as numbers
_CHUNK_PIXELS = 1024 * 32 * 32
_CHUNK_PIXELS_GPU = 4 * _CHUNK_PIXELS


@dataclass
class LoadedBatch:
    """Images and where they come from.

    Attributes:
        images: (B, 3, H, W) float in [0, 1].
        target: (B,) int64 labels; with mixup or cutmix (B, K) float.
        index: (B,) int64 position in the training set.
        draw: (B,) int64 position in the epoch's virtual set, ``repeat * N + index``; of a further copy beyond it.
        host_draw: ``draw`` in the host's memory, which no device is read for.
        smoothing_included: labels are soft and smoothed already.
        looks: (B, 3, H, W) further looks at the same images, by name.
    """

    images: Tensor
    target: Tensor
    index: Tensor
    draw: Tensor
    host_draw: Tensor
    smoothing_included: bool = False
    looks: dict[str, Tensor] = field(default_factory=dict)

    def on_device(self) -> tuple[Tensor, ...]:
        """The tensors that lie on the device."""
        return self.images, self.target, self.index, self.draw, *self.looks.values()


class TrainLoader:
    """Batches of one epoch: their order is a function of (seed, epoch), each image one of (aug_seed, epoch, draw).

    Args:
        split: the training split.
        batch_size: over all ranks.
        seed: of the order.
        aug_seed: of the augmentation.
        augment: the augmentation.
        repeat: passes over the split that make one epoch.
        aug_repeats: copies of an image in an epoch, see :class:`kdbench.data.order.Order`; 0 = off.
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
        aug_repeats: int = 0,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
        views: int = 0,
    ) -> None:
        self.views = views
        #: further looks at each image that someone asked for, by name
        self.looks: dict[str, Look] = {}
        self.split, self.batch_size, self.seed, self.aug_seed = split, batch_size, seed, aug_seed
        self.augment, self.repeat, self.device = augment, repeat, torch.device(device)
        self.rank, self.world, self.workers = rank, world, workers
        self.arrangement = Order(seed, len(split) * repeat, batch_size, aug_repeats)
        self.total = self.arrangement.total
        self.shares = Shares(self.total, batch_size, rank, world)
        # On a CPU a worker does all; with a GPU it reads and decodes, and the batch is augmented on the device.
        self._early = self.device.type == "cpu"
        if augment.mixes and batch_size % 2:
            raise ConfigError(f"AUGMENT.MIXUP and AUGMENT.CUTMIX need an even SOLVER.BATCH_SIZE, got {batch_size}")
        if self.shares.full and self.shares.least(batch_size) < 1:
            raise ConfigError(
                f"SOLVER.BATCH_SIZE {batch_size} over {world} processes leaves one of them without samples (each takes whole "
                "pairs); make it at least twice as many"
            )
        self._steps, rest = self.shares.steps, self.total % batch_size
        if rest and self._steps == self.shares.full:
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
        return min(self.shares.least(self.shares.size(step)) for step in (0, self._steps - 1))

    def weight(self, step: int) -> float:
        """What a mean over this process's part of a step's batch counts in the plain mean over all processes: its samples over
        the mean number of samples of a process."""
        return self.shares.weight(step)

    def show(self, looks: Iterable[str]) -> None:
        """Give further looks at each image from now on, by their names in :data:`kdbench.data.augmentation.looks.LOOKS`.

        Raises:
            IncompatibleError: images are mixed, and a look knows nothing of pairs.
        """
        for name in looks:
            if self.augment.mixes:
                raise IncompatibleError(
                    f"AUGMENT.MIXUP and AUGMENT.CUTMIX mix one look at an image, and the method sees {name!r}, too; set both to 0"
                )
            self.looks.setdefault(name, LOOKS[name](self.augment))

    def order(self, epoch: int) -> Tensor:
        """(total,) int64 draws of an epoch, in order; on the GPU where the loader works on one."""
        return self.arrangement.draws(epoch, self.device if self.device.type == "cuda" else "cpu")

    @property
    def fixes_order(self) -> bool:
        """Whether a view brings its order along, from which follows who is mixed with whom and which images have copies."""
        return self.augment.mixes or self.arrangement.copies > 0

    def view(self, epoch: int) -> int:
        """The augmented view (counted from 1) that an epoch sees."""
        return (epoch - 1) % self.views + 1 if self.views else epoch

    def epoch(self, epoch: int, start: int = 0) -> Iterator[LoadedBatch]:
        """The batches of an epoch (counted from 1), from step ``start`` (from 0) on."""
        view = self.view(epoch)
        with beside(self.device):
            order = self.order(view if self.fixes_order else epoch)
            known = (
                order.cpu()
            )  # the only numbers of an epoch that the host reads: what it draws and looks up follows from them

        def prepare(steps: list[int]) -> _Chunk:
            rows = [self.shares.rows(step) for step in steps]
            chunk = self._prepare(torch.cat([known[first:last] for first, last in rows]), rows, view)
            if self._early:
                chunk.batches = self._finish(chunk, chunk.draw, view)
            return chunk

        def finish(chunk: _Chunk) -> list[LoadedBatch]:
            if self._early:
                return chunk.batches
            return self._finish(chunk, torch.cat([order[first:last] for first, last in chunk.rows]), view)

        # Threads read and draw; where images live on the device and it draws all, there is nothing left to do for them.
        idle = resident(self.split, self.device) is not None and not self._drawn_by_host
        workers = 0 if idle else self.workers
        # as in a whole epoch: what is computed together, and in which shape, may decide over last bits
        chunks = [chunk for chunk in self._chunks() if chunk[-1] >= start]
        batches = in_advance(ahead(prepare, chunks, workers), finish, LoadedBatch.on_device, self.device)
        yield from itertools.islice(batches, start - chunks[0][0] if chunks else 0, None)

    def load(self, draw: Tensor, epoch: int, start: int = 0) -> LoadedBatch:
        """One batch of given draws, in the host's memory; the first stands at position ``start`` of the epoch's order (only mixing
        asks)."""
        chunk = self._prepare(draw, [(start, start + len(draw))], epoch)
        return self._finish(chunk, send(draw, self.device), epoch)[0]

    @property
    def _drawn_by_host(self) -> bool:
        return any(augment.drawn_by_host for augment in (self.augment, *self.looks.values()))

    def _chunks(self) -> list[list[int]]:
        """Steps that are prepared together: several where batches are so small that calls cost more than pixels."""
        pixels = self.batch_size * (self.augment.size or self.split.image_size) ** 2
        most = _CHUNK_PIXELS if self._early else _CHUNK_PIXELS_GPU
        steps = 1 if isinstance(self.split, CutSplit) else max(1, most // pixels)
        return [list(range(i, min(i + steps, len(self)))) for i in range(0, len(self), steps)]

    def _prepare(self, draw: Tensor, rows: list[tuple[int, int]], epoch: int) -> _Chunk:
        """What the host does for some batches: it draws, and reads images that are not on the device."""
        # Of several batches all but the last are even, so that the pairs of a chunk are its rows 2i and 2i + 1.
        pairs = torch.cat([torch.arange(first // 2, last // 2) for first, last in rows])
        side = self.augment.size or self.split.image_size
        drawn = self.augment.draw_on_host(self.aug_seed, epoch, draw, side, pairs)
        chunk = _Chunk(draw, rows, drawn)
        chunk.looks = {name: look.draw_on_host(self.aug_seed, epoch, draw, side) for name, look in self.looks.items()}
        if resident(self.split, self.device) is None:
            index = draw % len(self.split)
            chunk.images = pinned(self._read(self.augment, index, draw, epoch), self.device)
            if isinstance(self.split, CutSplit):  # each look is cut as its file is decoded
                chunk.cut = {
                    name: pinned(self._read(look, index, draw, epoch), self.device) for name, look in self.looks.items()
                }
            chunk.labels = pinned(self.split.labels[index], self.device)
        return chunk

    def _read(self, augment: Augment, index: Tensor, draw: Tensor, epoch: int) -> Tensor:
        if isinstance(self.split, CutSplit):
            size = augment.size or self.split.image_size
            cut = augment.random_cut(self.aug_seed, epoch, draw, size) or CentreCut(size)
            return self.split.fetch_cut(index, cut)
        return self.split.fetch(index)

    def _finish(self, chunk: _Chunk, draw: Tensor, epoch: int) -> list[LoadedBatch]:
        """What the device does for them, without being waited for; ``draw`` lies there."""
        index = draw % len(self.split)
        if chunk.images is None or chunk.labels is None:
            images, labels = resident(self.split, self.device).fetch(index)  # type: ignore[union-attr]
        else:
            images, labels = (part.to(self.device, non_blocking=True) for part in (chunk.images, chunk.labels))
        drawn, cut = chunk.drawn.to(self.device), not isinstance(self.split, CutSplit)
        # before the images themselves, which may be written to
        looks = {
            name: look(
                chunk.cut[name].to(self.device, non_blocking=True) if name in chunk.cut else images,
                *(self.aug_seed, epoch, draw),
                cut=cut,
                plan=chunk.looks[name].to(self.device).plan,
            )
            for name, look in self.looks.items()
        }
        images = self.augment(images, self.aug_seed, epoch, draw, cut=cut, plan=drawn.plan)
        if drawn.mixing is not None:
            images, labels = self.augment.mix(images, labels, drawn.mixing)
        result, done = [], 0
        for first, last in chunk.rows:
            part = slice(done, done + last - first)
            done = part.stop
            result.append(
                LoadedBatch(
                    *(images[part], labels[part], index[part], draw[part], chunk.draw[part], drawn.mixing is not None),
                    looks={name: look[part] for name, look in looks.items()},
                )
            )
        return result


@dataclass
class _Chunk:
    """A few batches on their way: draws and (first, last) position of each, what the host drew, and, where they do not live on the
    device, images and labels; of further looks the same, with images of their own where those are cut from files."""

    draw: Tensor
    rows: list[tuple[int, int]]
    drawn: HostDraws
    images: Tensor | None = None
    labels: Tensor | None = None
    batches: list[LoadedBatch] = field(default_factory=list)
    looks: dict[str, HostDraws] = field(default_factory=dict)
    cut: dict[str, Tensor] = field(default_factory=dict)


def standard_crop_pct(split: Split) -> float:
    """What ``AUGMENT.CROP_PCT: 0`` stands for: 0.875 for image files, all of an image in memory."""
    return 0.875 if isinstance(split, CutSplit) else 1.0


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
    device, store = torch.device(device), resident(split, torch.device(device))
    in_files = isinstance(split, CutSplit)
    cut = CentreCut(size or split.image_size, crop_pct or standard_crop_pct(split), interpolation)

    def read(part: Tensor) -> tuple[Tensor, Tensor]:
        images = split.fetch_cut(part, cut) if isinstance(split, CutSplit) else split.fetch(part)
        return pinned(images, device), pinned(split.labels[part], device)

    if store is None:
        parts = torch.arange(rank, len(split), world).split(batch_size)
        batches = ahead(read, parts, workers)
    else:
        parts = torch.arange(rank, len(split), world, device=device).split(batch_size)
        batches = map(store.fetch, parts)
    for images, labels in batches:
        there = images.to(device, non_blocking=True)
        done = forms.to_unit(there) if in_files or not size else evaluation_images(there, cut)
        yield done, labels.to(device, non_blocking=True)
