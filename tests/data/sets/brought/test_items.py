"""Torch data sets: images of any kind, in memory or read when they are needed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import IterableDataset, Subset, TensorDataset

import kdbench
from kdbench.data.augmentation.augment import Augment
from kdbench.data.loader import TrainLoader, evaluation_batches
from kdbench.errors import DataError

PIXELS = torch.randint(0, 256, (24, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


class Made:
    """Items made by a function."""

    def __init__(self, make, count=24):
        self.make, self.count = make, count

    def __len__(self):
        return self.count

    def __getitem__(self, position):
        return self.make(position), position % 4


def picture(position, mode="RGB"):
    return Image.fromarray(PIXELS[position].permute(1, 2, 0).numpy()).convert(mode)


def sized(position):
    """Pictures of different sizes, in both directions."""
    return picture(position).resize((20 + position % 3, 18), Image.Resampling.NEAREST)


@pytest.mark.parametrize(
    "make",
    [
        picture,
        lambda p: PIXELS[p],
        lambda p: PIXELS[p].float() / 255,
        lambda p: PIXELS[p].permute(1, 2, 0).numpy(),
        lambda p: picture(p).convert("RGBA"),
    ],
    ids=["pil", "tensor", "unit", "array", "alpha"],
)
def test_images_of_any_kind_are_the_same_pixels(make):
    data = kdbench.data_from_datasets(Made(make), Made(make), classes=["a", "b", "c", "d"])
    assert torch.equal(data.train.images, PIXELS)
    assert data.train.labels.tolist() == [n % 4 for n in range(24)]


@pytest.mark.parametrize(
    "make", [lambda p: picture(p, "L"), lambda p: PIXELS[p, 0], lambda p: PIXELS[p, :1], lambda p: PIXELS[p, 0].numpy()]
)
def test_grey_images_have_three_equal_channels(make):
    images = kdbench.data_from_datasets(Made(make), Made(make)).train.images
    assert images.shape == (24, 3, 8, 8)
    assert torch.equal(images[:, 0], images[:, 1])
    assert torch.equal(images[:, 0], images[:, 2])


def test_grey_pictures_of_16_bits_keep_their_upper_ones():
    deep = Image.fromarray(PIXELS[0, 0].numpy().astype(np.uint16) * 256 + 7)
    images = kdbench.data_from_datasets(Made(lambda p: deep), Made(lambda p: deep)).train.images
    assert torch.equal(images[0, 0], PIXELS[0, 0])


def test_torchs_own_data_sets():
    whole = TensorDataset(PIXELS.float() / 255, torch.arange(24) % 4)
    data = kdbench.data_from_datasets(Subset(whole, range(16)), Subset(whole, range(16, 24)))
    assert (len(data.train), len(data.test), data.classes) == (16, 8, ["0", "1", "2", "3"])
    share = kdbench.data_from_datasets(whole)
    assert torch.bincount(share.test.labels).tolist() == [1, 1, 1, 1]


def test_images_of_several_sizes_are_cut_when_they_are_needed():
    data = kdbench.data_from_datasets(Made(sized), Made(sized), image_size=8)
    assert data.image_size == 8
    augment = Augment(crop="rrc", pad=0, size=8, flip=0.5)
    batches = [
        list(TrainLoader(data.train, batch_size=8, seed=1, aug_seed=1, augment=augment, workers=workers).epoch(2))
        for workers in (0, 3)
    ]
    assert all(torch.equal(one.images, two.images) for one, two in zip(*batches))
    assert sorted(torch.cat([batch.index for batch in batches[0]]).tolist()) == list(range(24))
    images, labels = next(iter(evaluation_batches(data.test, 24, 8, "cpu")))
    assert images.shape == (24, 3, 8, 8)
    assert labels.tolist() == data.test.labels.tolist()


def test_a_budget_of_memory_decides_where_images_lie():
    lazy = kdbench.data_from_datasets(Made(picture), Made(picture), memory_gb=0, image_size=8)
    assert torch.equal(lazy.train.picture(3), PIXELS[3])
    assert torch.equal(lazy.train.subset(torch.tensor([5, 2])).picture(1), PIXELS[2])


@pytest.mark.parametrize("make", [picture, sized])
def test_the_fingerprint_is_that_of_content_labels_and_order(make):
    def mark(train):
        return kdbench.data_from_datasets(train, Made(make), image_size=8).fingerprint()

    plain = mark(Made(make))
    assert mark(Made(make)) == plain
    assert mark(Made(make, 23)) != plain
    assert mark(Made(lambda p: make(p if p else 1))) != plain


def test_few_shots_and_a_part_held_out():
    data = kdbench.data_from_datasets(Made(sized), Made(sized), image_size=8).few_shot(2, 0)
    assert torch.bincount(data.train.labels).tolist() == [2, 2, 2, 2]


class Endless(IterableDataset):
    def __iter__(self):
        return iter(())


class Other(Made):
    """Items that are no pairs of image and label."""

    def __init__(self, item):
        super().__init__(None)
        self.item = item

    def __getitem__(self, position):
        return self.item(position)


def broken(position):
    raise OSError("disk\ngone")


@pytest.mark.parametrize(
    ("items", "told"),
    [
        (Endless(), "expects a map-style data set"),
        ([], "has no items"),
        (Other(lambda p: PIXELS[p]), "expects .image, label., got Tensor"),
        (Other(lambda p: (PIXELS[p], 0.5)), "expects a whole number as label, got 0.5"),
        (Other(lambda p: (PIXELS[p], "cat")), "label, got 'cat'"),
        (Other(lambda p: (PIXELS[p], -1)), "label -1 is negative"),
        (Other(lambda p: (PIXELS[p].float() - 3, 1)), "leave out the normalisation"),
        (Other(lambda p: ("a.png", 1)), "an image is a PIL image, a tensor or an array, got str"),
        (Other(lambda p: (PIXELS[p, :2], 1)), "1 or 3 channels"),
        (Other(lambda p: (torch.rand(3, 8, 8), 1)), "another one when it is read again"),
        (Other(broken), r"item 0: cannot be read \(OSError: disk gone\)"),
    ],
)
def test_what_is_refused(items, told):
    with pytest.raises(DataError, match=told) as error:
        kdbench.data_from_datasets(items)
    assert "\n" not in str(error.value)
