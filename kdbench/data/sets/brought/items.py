"""A data set that is read item by item: a torch ``Dataset``, or whatever looks like one."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdbench.data.sets.brought.pixels import held_out, memory_source, names_of, pixels_of
from kdbench.data.sets.files import CutSplit
from kdbench.data.source import IMAGENET_STATISTICS, DataSource, MemorySplit, Standard, Statistics
from kdbench.errors import DataError, KdbenchError

log = logging.getLogger(__name__)
_SIZE = 224
_LOOKS = 16


class ItemSplit(CutSplit):
    """Images that are asked of a data set when they are fetched, in several threads where there are workers.

    Args:
        items: ``items[i]`` is a pair of image and label.
        places: (N,) int64 positions in ``items``.
        labels: (N,) int64.
        fingerprint: of the content of all items.
        image_size: side of what is fetched.
        where: what an error calls it.
    """

    def __init__(
        self, items: Any, places: Tensor, labels: Tensor, fingerprint: str, image_size: int, where: str
    ) -> None:
        self.items, self.places, self.fingerprint, self.where = items, places, fingerprint, where
        self.labels, self.image_size = labels, image_size

    def __len__(self) -> int:
        return len(self.places)

    def picture(self, position: int) -> Tensor:
        """(3, h, w) uint8."""
        return _item(self.items, int(self.places[position]), self.where)[0]

    def subset(self, positions: Tensor) -> ItemSplit:
        """The split of these positions, in this order."""
        return ItemSplit(
            self.items,
            self.places[positions],
            self.labels[positions],
            self.fingerprint,
            self.image_size,
            self.where,
        )

    def digest(self) -> str:
        """Hexadecimal fingerprint of content and order."""
        found = hashlib.sha256(f"{self.fingerprint} {len(self)}".encode())
        found.update(np.ascontiguousarray(self.places.numpy()).data)
        return found.hexdigest()


def data_from_datasets(
    train: Any,
    test: Any = None,
    *,
    val: Any = None,
    classes: Sequence[str] | None = None,
    statistics: Statistics | None = None,
    image_size: int = 0,
    memory_gb: float = 2.0,
    test_fraction: float = 0.2,
    name: str = "items",
) -> DataSource:
    """A data set from map-style torch ``Dataset`` objects of ``(image, label)`` pairs.

    Every item is read once, for its label and for the fingerprint. Square images of one size stay in memory (up to ``memory_gb`` of
    them); others are read again whenever they are needed, and cut as image files are. Augmentation is kdbench's: a transform of
    the data set may decode and resize, and must not draw or normalise.

    Args:
        train: ``len(data)`` and ``data[i] -> (image, label)``: a PIL image, a (C, H, W) or (H, W) tensor, a (H, W, C)
            or (H, W) array, with 1 or 3 channels; a whole number from 0.
        test: likewise; without it, ``test_fraction`` of each class of ``train`` is held out, the same for every seed.
        val: likewise; a part for the selection of models.
        classes: names; those of ``train.classes``, else the labels' numbers, by default.
        statistics: ``(mean, std)``; by default measured of images in memory, ImageNet's of others.
        image_size: side of images that do not stay in memory; 0 = 224.
        memory_gb: what images may take in memory, all parts together.
        test_fraction: see above.
        name: of the data set; a part of its fingerprint.

    Raises:
        DataError: it is no map-style data set, an item is no pair of image and label, or a transform draws or normalises.
    """
    given = {part: items for part, items in (("train", train), ("test", test), ("val", val)) if items is not None}
    left = memory_gb * 1e9
    found: dict[str, _Read] = {}
    for part, items in given.items():
        found[part] = _read(items, f"{name}, {part}", left)
        left -= 0 if found[part].images is None else found[part].images.nbytes  # type: ignore[union-attr]
    if classes is None:
        own = getattr(train, "classes", None)
        classes = own if isinstance(own, (list, tuple)) and all(isinstance(one, str) for one in own) else None
    sizes = {part.images.shape[-1] for part in found.values() if part.images is not None}
    if all(part.images is not None for part in found.values()) and len(sizes) == 1:
        splits = {part: MemorySplit(one.images, one.labels) for part, one in found.items()}  # type: ignore[arg-type]
        return memory_source(
            name,
            splits["train"],
            splits.get("test"),
            classes=classes,
            val=splits.get("val"),
            statistics=statistics,
            test_fraction=test_fraction,
        )
    log.info("%s: its images do not stay in memory; they are read when they are needed, and cut as files are", name)
    lazy = {
        part: ItemSplit(
            given[part], torch.arange(len(one.labels)), one.labels, one.digest, image_size or _SIZE, f"{name}, {part}"
        )
        for part, one in found.items()
    }
    names = names_of(classes, *(one.labels for one in lazy.values()))
    if "test" not in lazy:
        keep, held = held_out(lazy["train"].labels, test_fraction, name)
        lazy["train"], lazy["test"] = lazy["train"].subset(keep), lazy["train"].subset(held)
    standard = Standard(crop="rrc", pad=0, flip=0.5)
    parts = (lazy["train"], lazy["test"], names, statistics or IMAGENET_STATISTICS, standard)
    return DataSource(name, *parts, val=lazy.get("val"))


class _Read:
    """All items of a part: their labels, a digest, and the images where they stay in memory."""

    def __init__(self, labels: Tensor, digest: str, images: Tensor | None) -> None:
        self.labels, self.digest, self.images = labels, digest, images


def _read(items: Any, where: str, budget: float) -> _Read:
    if not hasattr(items, "__getitem__") or not hasattr(items, "__len__"):
        raise DataError(f"{where}: expects a map-style data set with a length and items, got {type(items).__name__}")
    if not len(items):
        raise DataError(f"{where}: has no items")
    digest, labels = hashlib.sha256(), []
    first, label = _item(items, 0, where)
    square = first.shape[-1] == first.shape[-2]
    stays = square and first.nbytes * len(items) <= budget
    images = torch.empty((len(items), *first.shape), dtype=torch.uint8) if stays else None
    marks: dict[int, str] = {}
    every = max(1, len(items) // _LOOKS)
    for position in range(len(items)):
        image, label = _item(items, position, where)
        mark = hashlib.sha256(repr((tuple(image.shape), label)).encode() + image.contiguous().numpy().tobytes())
        digest.update(mark.digest())
        labels.append(label)
        if position % every == 0:
            marks[position] = mark.hexdigest()
        if images is not None and image.shape == first.shape:
            images[position] = image
        else:
            images = None
    _check_replay(items, marks, where)
    return _Read(torch.tensor(labels, dtype=torch.int64), digest.hexdigest(), images)


def _check_replay(items: Any, marks: dict[int, str], where: str) -> None:
    """Refuse items that are others when they are read again."""
    for position, before in marks.items():
        image, label = _item(items, position, where)
        mark = hashlib.sha256(repr((tuple(image.shape), label)).encode() + image.contiguous().numpy().tobytes())
        if mark.hexdigest() != before:
            raise DataError(
                f"{where}: item {position} is another one when it is read again, so that no run could be repeated; leave random "
                "transforms out, AUGMENT draws them"
            )


def _item(items: Any, position: int, where: str) -> tuple[Tensor, int]:
    at = f"{where}, item {position}"
    try:
        item = items[position]
    except KdbenchError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:160]
        raise DataError(f"{at}: cannot be read ({type(error).__name__}: {reason})") from error
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        raise DataError(f"{at}: expects (image, label), got {type(item).__name__}")
    image, label = item
    if isinstance(label, (Tensor, np.ndarray, np.generic)) and np.asarray(label).size == 1:
        label = label.item()
    if isinstance(label, bool) or not isinstance(label, int):
        raise DataError(f"{at}: expects a whole number as label, got {label!r:.60}")
    if label < 0:
        raise DataError(f"{at}: label {label} is negative; labels count from 0")
    return pixels_of(image, at), label
