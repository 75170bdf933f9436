"""What a method is told: of the training set, and of one batch."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from kdbench.random import CounterRNG


@dataclass(frozen=True)
class DataInfo:
    """What a method may know of the training set.

    Attributes:
        num_classes: K.
        num_samples: training images (before repetition); memory banks have that many rows.
        labels: (num_samples,) int64 training labels, for methods that draw negatives by class; may be None.
    """

    num_classes: int
    num_samples: int = 0
    labels: Tensor | None = None


@dataclass
class Batch:
    """One training batch as a method sees it.

    Attributes:
        images: (B, 3, H, W) float in [0, 1], augmented, not normalised.
        target: (B,) int64 labels, or (B, K) soft labels (mixup, cutmix).
        index: (B,) int64 position of each sample in the training set.
        draw: (B,) int64 position of each sample in the epoch's virtual set (repeats count apart); keys random draws.
        epoch: counted from 1.
        progress: share of the training that is done, in [0, 1].
        seed: the run's seed.
        smoothing: label smoothing of the run's criterion; 0 where the soft labels hold it already.
    """

    images: Tensor
    target: Tensor
    index: Tensor
    draw: Tensor
    epoch: int = 1
    progress: float = 0.0
    seed: int = 0
    smoothing: float = 0.0

    @property
    def labels(self) -> Tensor:
        """(B,) class index of each sample; the largest entry of a soft label."""
        return self.target if self.target.dim() == 1 else self.target.argmax(dim=1)

    def generator(self, name: str) -> CounterRNG:
        """The random stream ``name`` of this batch: row ``b`` belongs to sample ``draw[b]``, whatever the batch is."""
        return CounterRNG(self.seed, f"method/{name}", self.epoch, self.draw)
