"""The data sets that always work: scikit-learn's digits, and random images."""

from __future__ import annotations

import torch
from torch import Tensor

from kdbench.data.source import DataSource, MemorySplit, Standard, register_dataset, stratified_split
from kdbench.errors import DataError
from kdbench.random import CounterRNG, derive_seed

_DIGITS_TEST = 500


@register_dataset("digits")
def digits(root: str = "") -> DataSource:
    """scikit-learn's handwritten digits (Alpaydin and Kaynak; part of the UCI set): 1,797 grey 8x8 images, 10 classes.

    The intensities 0..16 are scaled to 0..255 and repeated over three channels. The split is fixed: of each class the
    same share is test (Philox order of the position in the file), 1,297 images for training and 500 for testing.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.as_tensor(bunch.images).mul(255.0 / 16.0).round().to(torch.uint8)
    images = images[:, None].expand(-1, 3, -1, -1).contiguous()
    labels = torch.as_tensor(bunch.target).long()
    train, test = stratified_split(labels, _DIGITS_TEST / len(labels), stream="digits")
    return DataSource(
        name="digits",
        train=MemorySplit(images[train], labels[train]),
        test=MemorySplit(images[test], labels[test]),
        classes=[str(i) for i in range(10)],
        statistics=((0.3058,) * 3, (0.376,) * 3),
        standard=Standard(crop="pad", pad=1, flip=0.0),
    )


@register_dataset("fake")
def fake(
    root: str = "", num_classes: int = 10, size: int = 32, train: int = 256, test: int = 128, seed: int = 0
) -> DataSource:
    """Random images with random labels, a pure function of the options: for smoke runs and measurements.

    Raises:
        DataError: an option that is no positive number.
    """
    for name, value in (("num_classes", num_classes), ("size", size), ("train", train), ("test", test)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise DataError(f"DATASET.OPTIONS.{name} of 'fake' expects a positive whole number, got {value!r}")
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise DataError(f"DATASET.OPTIONS.seed of 'fake' expects a whole number, got {seed!r}")
    return DataSource(
        name="fake",
        train=_fake_split(train, num_classes, size, seed, "train"),
        test=_fake_split(test, num_classes, size, seed, "test"),
        classes=[f"class{i}" for i in range(num_classes)],
        statistics=((0.5,) * 3, (0.29,) * 3),
        gate=False,
    )


def _fake_split(count: int, num_classes: int, size: int, seed: int, part: str) -> MemorySplit:
    generator = torch.Generator().manual_seed(derive_seed("fake", seed, part, count, size))
    images: Tensor = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)
    labels = CounterRNG(seed, f"fake/{part}", 0, torch.arange(count)).integers(num_classes, 1)[:, 0]
    # every class is there, so that a count by class never has a hole
    labels[: min(num_classes, count)] = torch.arange(min(num_classes, count))
    return MemorySplit(images, labels)
