"""What a data set is: two splits of images and labels, and what is known of them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from kdbench import registry
from kdbench.domains import as_statistics
from kdbench.errors import ConfigError, DataError
from kdbench.random import CounterRNG
from kdbench.registry import Registry

Statistics = tuple[tuple[float, float, float], tuple[float, float, float]]
IMAGENET_STATISTICS: Statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Split(Protocol):
    """One split: labelled images, fetched by position.

    A split whose images are of any size has besides ``fetch_cut(positions, cut)``; see
    :class:`kdbench.data.sets.files.CutSplit`.
    """

    labels: Tensor  # (N,) int64
    image_size: int  # side of a fetched image

    def __len__(self) -> int: ...

    def fetch(self, positions: Tensor) -> Tensor:
        """(B,) int64 -> (B, 3, H, W) uint8."""
        ...

    def subset(self, positions: Tensor) -> Split:
        """The split of these positions, in this order."""
        ...

    def digest(self) -> str:
        """Hexadecimal fingerprint of content and order."""
        ...


@dataclass
class MemorySplit:
    """A split that lives in memory as one uint8 tensor.

    Args:
        images: (N, 3, H, W) or (N, 1, H, W) uint8, square; grey ones are held as three equal channels.
        labels: (N,) int64.

    Raises:
        DataError: images of another shape or kind, or another number of labels.
    """

    images: Tensor
    labels: Tensor
    #: on GPUs, by device; see :mod:`kdbench.data.resident`. They are given up with the split.
    copies: dict[torch.device, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.images.dim() == 4 and self.images.shape[1] == 1:
            self.images = self.images.expand(-1, 3, -1, -1).contiguous()
        if self.images.dtype != torch.uint8 or self.images.dim() != 4 or self.images.shape[1] != 3:
            raise DataError(f"images must be (N, 3, H, W) uint8, got {tuple(self.images.shape)} {self.images.dtype}")
        if self.images.shape[-1] != self.images.shape[-2]:
            raise DataError(f"images must be square, got {tuple(self.images.shape[-2:])}; pad or cut them")
        if len(self.images) != len(self.labels):
            raise DataError(f"{len(self.images)} images but {len(self.labels)} labels")
        self.image_size = int(self.images.shape[-1])

    def __len__(self) -> int:
        return len(self.labels)

    def fetch(self, positions: Tensor) -> Tensor:
        return self.images.index_select(0, positions)

    def subset(self, positions: Tensor) -> MemorySplit:
        return MemorySplit(self.images[positions], self.labels[positions])

    def digest(self) -> str:
        digest = hashlib.sha256(repr(tuple(self.images.shape)).encode())
        digest.update(self.images.contiguous().numpy().data)
        digest.update(self.labels.contiguous().numpy().data)
        return digest.hexdigest()


@dataclass(frozen=True)
class Standard:
    """The augmentation that a data set is usually trained with, for ``AUGMENT`` keys left at auto."""

    crop: str = "pad"
    pad: int = 4
    flip: float = 0.5


@dataclass
class DataSource:
    """A data set, ready to be trained on.

    Attributes:
        name: registered name.
        train, test: its splits.
        classes: class names in the order of the labels.
        statistics: ``(mean, std)`` of the training images in [0, 1].
        standard: its usual augmentation.
        val: the part of train that was held out for model selection, or None.
        gate: a teacher must reach a floor of accuracy here (off for random images).
        left_out: what lies in its folder and is not used, with the reason.
    """

    name: str
    train: Split
    test: Split
    classes: list[str]
    statistics: Statistics
    standard: Standard = field(default_factory=Standard)
    val: Split | None = None
    gate: bool = True
    left_out: tuple[str, ...] = ()
    _digests: dict[str, tuple[str, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Raises: DataError: what no training could mean."""
        if as_statistics(self.statistics) is None:
            raise DataError(
                f"data set {self.name!r}: statistics are a finite mean and a finite, positive standard deviation of three "
                f"channels, got {self.statistics!r:.120}"
            )
        if not isinstance(self.classes, (list, tuple)) or not all(isinstance(name, str) for name in self.classes):
            raise DataError(f"data set {self.name!r}: classes are a list of names, got {self.classes!r:.60}")
        twice = [name for name, count in Counter(self.classes).items() if count > 1]
        if twice:
            raise DataError(f"data set {self.name!r}: class {twice[0]!r} stands twice")
        for part in ("train", "test", "val"):
            split = getattr(self, part)
            if split is not None:
                self._check_labels(part, split.labels, len(split))

    def _check_labels(self, part: str, labels: Tensor, images: int) -> None:
        where = f"data set {self.name!r}, {part}"
        if not isinstance(labels, Tensor) or labels.dtype != torch.int64 or labels.dim() != 1:
            kind = (
                f"{labels.dtype} of shape {tuple(labels.shape)}"
                if isinstance(labels, Tensor)
                else type(labels).__name__
            )
            raise DataError(f"{where}: labels are an int64 tensor of shape (N,), got {kind}")
        if len(labels) != images or images == 0:
            raise DataError(
                f"{where}: {images} images and {len(labels)} labels; expects as many of both, and at least one"
            )
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= self.num_classes:
            wrong = low if low < 0 else high
            raise DataError(
                f"{where}: label {wrong} is none of 0 to {self.num_classes - 1}, the {self.num_classes} classes"
            )

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.classes)

    @property
    def image_size(self) -> int:
        """Side of an image."""
        return self.train.image_size

    def fingerprint(self) -> str:
        """Hexadecimal digest of the training and test images and labels in use; computed once."""
        return self._combined(0, "train", "test")

    def stamp(self, *parts: str) -> str:
        """The key of what is stored about the images of ``parts`` (default: train and test): a fingerprint that depends on the
        times at which image files were last written too, so that nothing stored about an old file serves for a new one."""
        return self._combined(1, *(parts or ("train", "test")))

    def touched(self) -> str:
        """The same of all splits, which changes whenever a file was touched: no copy keeps that time."""
        return self._combined(-1, *(part for part in ("train", "test", "val") if getattr(self, part) is not None))

    def _combined(self, which: int, *parts: str) -> str:
        for part in parts:
            if part not in self._digests:
                split = getattr(self, part)
                both = getattr(split, "digests", None)
                self._digests[part] = both() if both is not None else (split.digest(),) * 2
        words = (self.name, *(self._digests[part][which] for part in parts))
        return hashlib.sha256(" ".join(words).encode()).hexdigest()

    def hold_out(self, fraction: float) -> DataSource:
        """Cut a validation split from train: of each class the same fraction, chosen once and for all (no seed).

        Raises:
            ConfigError: one of the two would be empty.
        """
        keep, held = stratified_split(self.train.labels, fraction, stream="validation")
        if not len(keep) or not len(held):
            most = int(torch.bincount(self.train.labels).max())
            raise ConfigError(
                f"DATASET.VAL_FRACTION {fraction:g} leaves no images for {'training' if len(held) else 'validation'}: the largest "
                f"class has {most} training images"
            )
        return replace(self, train=self.train.subset(keep), val=self.train.subset(held))

    def few_shot(self, per_class: int, seed: int) -> DataSource:
        """Keep ``per_class`` training images of each class; see :func:`per_class_subset`."""
        few = self.train.subset(per_class_subset(self.train.labels, per_class, seed))
        told = f"{len(self.train) - len(few):,} training images beyond {per_class} of each class (DATASET.PER_CLASS)"
        return replace(self, train=few, left_out=(*self.left_out, *([told] if len(few) < len(self.train) else [])))


datasets: Registry[Callable[..., DataSource]] = registry.datasets


def register_dataset(name: str) -> Callable[[Callable[..., DataSource]], Callable[..., DataSource]]:
    """Decorator: register ``fn(root, **options) -> DataSource`` under ``name``; ``root`` is ``DATASET.ROOT``."""

    def decorate(build: Callable[..., DataSource]) -> Callable[..., DataSource]:
        datasets.add(name, build)
        return build

    return decorate


def _ranked(labels: Tensor, seed: int, stream: str) -> Tensor:
    """(N,) rank of each sample within its class, in an order that depends on (seed, stream, position) alone."""
    bits = CounterRNG(seed, f"subset/{stream}", 0, torch.arange(len(labels))).bits(1)[:, 0]
    order = torch.sort(bits, stable=True).indices
    order = order[torch.sort(labels[order], stable=True).indices]
    counts = torch.bincount(labels)
    starts = torch.cumsum(counts, 0) - counts
    ranks = torch.empty_like(labels)
    ranks[order] = torch.arange(len(labels)) - starts[labels[order]]
    return ranks


def per_class_subset(labels: Tensor, per_class: int, seed: int) -> Tensor:
    """Sorted positions of ``per_class`` samples of each class: those with the smallest Philox value of (seed,
    position).

    Raises:
        DataError: a class has fewer samples.
    """
    counts = torch.bincount(labels)
    if int(counts.min()) < per_class:
        short = int(counts.argmin())
        raise DataError(f"DATASET.PER_CLASS is {per_class}, but class {short} has {int(counts[short])} training images")
    return torch.nonzero(_ranked(labels, seed, "few-shot") < per_class).flatten()


def stratified_split(labels: Tensor, fraction: float, *, stream: str) -> tuple[Tensor, Tensor]:
    """Sorted positions (kept, held out): of each class ``round(fraction * count)`` samples are held out."""
    counts = torch.bincount(labels)
    held = (counts * fraction).round().long()[labels] > _ranked(labels, 0, stream)
    return torch.nonzero(~held).flatten(), torch.nonzero(held).flatten()
