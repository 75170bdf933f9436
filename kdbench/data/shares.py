"""Which positions of an epoch's order make a step, and which of them a process gets."""

from __future__ import annotations

from dataclasses import dataclass

_LEAST = 2  # samples of which batch statistics can be taken


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
