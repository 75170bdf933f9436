"""Which images an epoch has and in which order, which of them make a step, and which of those a process gets."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kdbench.config.values import epoch_length
from kdbench.random import permutation

_LEAST = 2  # samples of which batch statistics can be taken


@dataclass(frozen=True)
class Order:
    """The draws of an epoch, a function of (seed, epoch).

    With repeated augmentation (Hoffer et al., *Augment your batch*, CVPR 2020; Berman et al., *MultiGrain*, 2019) a batch holds
    several copies of an image, each augmented by itself. As in timm@1.0 (``data/distributed_sampler.py``) every image of the
    shuffled set is taken ``copies`` times in a row, and the list is cut to the length of a plain epoch: an epoch has one of
    ``copies`` images of the set, others than the epoch before. There each of so many processes takes every so many-th entry of the
    list. Here the entries of a batch are laid out by their copies, first ones before second ones, whoever takes them: shares of a
    batch hold copies of an image on different processes where these are at least as many, and no image is mixed with a copy of
    its own where a batch has two whole images or more.

    Attributes:
        seed: of the order.
        images: N, with passes over the set counted apart.
        batch_size: over all processes; it decides over the layout of copies alone.
        copies: of an image in an epoch; 0 = it comes once, and all of them do.
    """

    seed: int
    images: int
    batch_size: int
    copies: int = 0

    @property
    def total(self) -> int:
        """Length of an epoch."""
        return epoch_length(self.images, self.copies)

    def draws(self, epoch: int, device: torch.device | str = "cpu") -> Tensor:
        """(total,) int64 draws of an epoch, ``copy * N + image``, in order."""
        shuffled = permutation(self.seed, "order", epoch, self.images, device)
        if not self.copies:
            return shuffled
        place = torch.arange(self.total, device=device)
        copy = place % self.copies
        by_copy = torch.argsort(place // self.batch_size * self.copies + copy, stable=True)
        return (copy * self.images + shuffled[place // self.copies])[by_copy]

    def places(self, epoch: int) -> Tensor | None:
        """(copies * N,) int64: where a draw stands in the order, in the host's memory; ``total`` of draws that the epoch does not
        have. None where an epoch has all, so that they number themselves."""
        if not self.copies:
            return None
        draws = self.draws(epoch)
        places = torch.full((self.copies * self.images,), self.total)
        places[draws] = torch.arange(len(draws))
        return places


@dataclass(frozen=True)
class Shares:
    """Batches of an epoch over several processes, each of which takes a contiguous part of every batch, whole pairs of positions.

    Attributes:
        total: positions of an epoch.
        batch_size: over all processes.
        rank, world: this process, of how many.
    """

    total: int
    batch_size: int
    rank: int = 0
    world: int = 1

    @property
    def full(self) -> int:
        """Steps with a whole batch."""
        return self.total // self.batch_size

    @property
    def steps(self) -> int:
        """Steps of an epoch. A last batch of fewer is none where it would leave a process with fewer than two samples."""
        return self.full + (self.least(self.total % self.batch_size) >= _LEAST)

    def rows(self, step: int) -> tuple[int, int]:
        """First and last position of this process's part of a step's batch."""
        start = step * self.batch_size
        first, last = self._part(self.size(step), self.rank)
        return start + first, start + last

    def weight(self, step: int) -> float:
        """What a mean over this process's part of a step's batch counts in the plain mean over all processes."""
        first, last = self.rows(step)
        return (last - first) * self.world / self.size(step)

    def size(self, step: int) -> int:
        """Samples of a step's batch over all processes."""
        return min(self.batch_size, self.total - step * self.batch_size)

    def least(self, size: int) -> int:
        """Samples of the process that gets the fewest of a batch of ``size``."""
        return min(last - first for first, last in (self._part(size, rank) for rank in range(self.world)))

    def _part(self, size: int, rank: int) -> tuple[int, int]:
        pairs = (size + 1) // 2
        first, last = (2 * (pairs * r // self.world) for r in (rank, rank + 1))
        return min(first, size), min(last, size)
