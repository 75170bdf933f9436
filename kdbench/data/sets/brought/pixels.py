"""Images of any library as uint8 pixels, and what is known of a data set from its pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdbench.data.augmentation.decode import from_pillow
from kdbench.data.source import DataSource, MemorySplit, Standard, Statistics, stratified_split
from kdbench.errors import DataError

_CHANNELS = (1, 3)
_CHUNK = 4096
_MOST_CLASSES = 1_000_000


def pixels_of(image: Any, where: str) -> Tensor:
    """(3, H, W) uint8 of one image: a PIL image, a (C, H, W) or (H, W) tensor, or a (H, W, C), (H, W) or (C, H, W) array.

    Grey images get three equal channels. Numbers are uint8, or floating-point in [0, 1].

    Raises:
        DataError: it is no image, or was normalised.
    """
    if hasattr(image, "convert") and hasattr(image, "mode"):
        return from_pillow(image)
    if isinstance(image, Tensor):
        return colour(as_bytes(image.detach().cpu(), where)[None], where, channels_first=True)[0]
    if isinstance(image, np.ndarray):
        return colour(as_bytes(torch.from_numpy(np.array(image)), where)[None], where)[0]
    raise DataError(f"{where}: an image is a PIL image, a tensor or an array, got {type(image).__name__}")


def as_bytes(values: Tensor, where: str) -> Tensor:
    """Numbers of pixels as uint8.

    Raises:
        DataError: whole numbers outside [0, 255], or others outside [0, 1].
    """
    if values.dtype == torch.uint8:
        return values
    real = values.is_floating_point()
    if values.is_complex() or values.dtype == torch.bool or values.numel() == 0:
        raise DataError(
            f"{where}: images are uint8, or floating-point in [0, 1], got {values.dtype} {tuple(values.shape)}"
        )
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= (1 if real else 255)):
        hint = "leave out the normalisation, which each network does itself" if real else "expects 0 to 255"
        raise DataError(f"{where}: images have values from {low:g} to {high:g}; {hint}")
    return values.mul(255).round().to(torch.uint8) if real else values.to(torch.uint8)


def colour(images: Tensor, where: str, *, channels_first: bool = False) -> Tensor:
    """(N, H, W), (N, H, W, C) or (N, C, H, W), with C of 1 or 3, -> (N, 3, H, W). Where both fit, C is last, unless it is told.

    Raises:
        DataError: another shape.
    """
    if images.dim() == 3:
        images = images[:, None]
    elif images.dim() == 4 and images.shape[-1] in _CHANNELS and not (channels_first and images.shape[1] in _CHANNELS):
        images = images.permute(0, 3, 1, 2)
    if images.dim() != 4 or images.shape[1] not in _CHANNELS:
        raise DataError(f"{where}: images have 1 or 3 channels, got shape {tuple(images.shape)}")
    return images.expand(-1, 3, -1, -1).contiguous()


def labels_of(values: Any, where: str) -> Tensor:
    """(N,) int64 of (N,) or (N, 1) whole numbers.

    Raises:
        DataError: something else.
    """
    found = torch.as_tensor(np.asarray(values)) if not isinstance(values, Tensor) else values.detach().cpu()
    if found.dim() == 2 and found.shape[1] == 1:
        found = found[:, 0]
    if found.dim() != 1 or found.is_floating_point() or found.is_complex() or found.dtype == torch.bool:
        raise DataError(f"{where}: labels are (N,) whole numbers, got {found.dtype} of shape {tuple(found.shape)}")
    return found.long()


def names_of(classes: Any, *labels: Tensor) -> list[str]:
    """Names of classes; of none that are given the numbers up to the largest label.

    Raises:
        DataError: labels that are no numbers of classes.
    """
    if classes is not None and len(classes):
        return [str(name) for name in classes]
    most = max(int(part.max()) for part in labels if len(part))
    if most >= _MOST_CLASSES:
        raise DataError(f"label {most} is too large for the number of a class; labels count from 0")
    return [str(number) for number in range(most + 1)]


def statistics_of(images: Tensor) -> Statistics:
    """``(mean, std)`` of (N, 3, H, W) uint8 images in [0, 1], to four places; from counts, so that no order of adding decides."""
    counts = torch.zeros(3, 256, dtype=torch.int64)
    for part in images.split(_CHUNK):
        for channel in range(3):
            counts[channel] += torch.bincount(part[:, channel].flatten().long(), minlength=256)
    level, shares = torch.arange(256).double() / 255, counts.double() / counts.sum(1, keepdim=True)
    mean = (shares * level).sum(1)
    std = (shares * (level - mean[:, None]) ** 2).sum(1).sqrt()
    return tuple(round(v, 4) for v in mean.tolist()), tuple(round(v, 4) or 1.0 for v in std.tolist())  # type: ignore[return-value]


def memory_source(
    name: str,
    train: MemorySplit,
    test: MemorySplit | None,
    *,
    classes: Any = None,
    val: MemorySplit | None = None,
    statistics: Statistics | None = None,
    test_fraction: float = 0.2,
) -> DataSource:
    """A data set in memory, padded by an eighth of its side and flipped as its usual augmentation.

    Args:
        test: None holds out ``test_fraction`` of each class of ``train``, the same for every seed.

    Raises:
        DataError: see :class:`kdbench.DataSource`; or nothing is left for one of the two parts.
    """
    parts = [part.labels for part in (train, test, val) if part is not None]
    for labels in parts:
        if len(labels) and int(labels.min()) < 0:
            raise DataError(f"data set {name!r}: label {int(labels.min())} is negative; labels count from 0")
    if any(not len(labels) for labels in parts):
        raise DataError(f"data set {name!r}: a part of it has no images")
    names = names_of(classes, *parts)
    if test is None:
        keep, held = held_out(train.labels, test_fraction, name)
        train, test = train.subset(keep), train.subset(held)
    return DataSource(
        name,
        train,
        test,
        names,
        statistics or statistics_of(train.images),
        Standard(crop="pad", pad=max(1, train.image_size // 8), flip=0.5),
        val=val,
    )


def held_out(labels: Tensor, fraction: Any, name: str) -> tuple[Tensor, Tensor]:
    """Positions of training and of test images, where a data set has no test part of its own.

    Raises:
        DataError: one of the two would be empty.
    """
    if isinstance(fraction, bool) or not isinstance(fraction, (int, float)) or not 0 < fraction < 1:
        raise DataError(f"data set {name!r}: test_fraction lies between 0 and 1, got {fraction!r}")
    keep, held = stratified_split(labels, float(fraction), stream="own data")
    if not len(keep) or not len(held):
        raise DataError(f"data set {name!r}: test_fraction {fraction:g} leaves no images for one of the parts")
    return keep, held
