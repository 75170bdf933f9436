"""Data in memory: fixed splits, replayable order and pixels."""

from __future__ import annotations

import pytest
import torch
import torchvision.transforms.v2.functional as TF
from torchvision.transforms import RandomResizedCrop

from kdbench.data.augmentation.augment import Augment, pad_crop, random_boxes
from kdbench.data.loader import TrainLoader, evaluation_batches
from kdbench.data.sets.builtin import digits, fake
from kdbench.data.source import per_class_subset, stratified_split
from kdbench.errors import ConfigError, DataError
from kdbench.random import CounterRNG

PAD = Augment(crop="pad", pad=2, flip=0.5)


def loader(split, **changes):
    settings = {"batch_size": 32, "seed": 1, "aug_seed": 1, "augment": PAD, "repeat": 2, **changes}
    return TrainLoader(split, **settings)


def test_digits_split_is_fixed():
    source = digits()
    assert (len(source.train), len(source.test), source.num_classes) == (1297, 500, 10)
    assert source.fingerprint().startswith("13e44211")
    mean = source.train.images.float().div(255).mean()
    assert abs(float(mean) - source.statistics[0][0]) < 1e-3


def test_draws_name_their_sample():
    source = fake(train=50, size=8)
    part = loader(source.train)
    seen = torch.cat([batch.draw for batch in part.epoch(1)])
    assert sorted(seen.tolist()) == list(range(100))
    for batch in part.epoch(1):
        assert torch.equal(batch.index, batch.draw % 50)
        assert torch.equal(batch.target, source.train.labels[batch.index])


def test_pixels_depend_on_seed_epoch_and_draw_alone():
    source = fake(train=50, size=8)
    whole = {int(d): image for b in loader(source.train).epoch(3) for d, image in zip(b.draw, b.images)}
    other = {int(d): image for b in loader(source.train, batch_size=7).epoch(3) for d, image in zip(b.draw, b.images)}
    assert all(torch.equal(whole[d], image) for d, image in other.items())
    ranks = [loader(source.train, rank=r, world=2).epoch(3) for r in range(2)]
    shared = {int(d): image for part in ranks for b in part for d, image in zip(b.draw, b.images)}
    assert shared.keys() == whole.keys()
    assert all(torch.equal(whole[d], image) for d, image in shared.items())
    later = {int(d): image for b in loader(source.train).epoch(4) for d, image in zip(b.draw, b.images)}
    assert any(not torch.equal(whole[d], later[d]) for d in whole)


def test_ranks_hold_whole_pairs():
    parts = [list(loader(fake(train=50, size=8).train, rank=r, world=2).epoch(1)) for r in range(2)]
    whole = list(loader(fake(train=50, size=8).train).epoch(1))
    for one, two, both in zip(*parts, whole):
        assert torch.equal(torch.cat((one.draw, two.draw)), both.draw)
        assert len(one.draw) % 2 == 0


def test_last_batch_of_one_is_dropped():
    part = loader(fake(train=33, size=8).train, repeat=1)
    assert [len(b.draw) for b in part.epoch(1)] == [32]
    assert len(part) == 1
    assert part.smallest == 32


def test_shares_of_processes():
    """Of a last batch of 6 (54 = 3 x 16 + 6) two processes get 2 and 4; of one of 2 the first would get nothing."""
    parts = [loader(fake(train=54, size=8).train, repeat=1, batch_size=16, rank=r, world=2) for r in range(2)]
    assert [[len(b.draw) for b in part.epoch(1)] for part in parts] == [[8, 8, 8, 2], [8, 8, 8, 4]]
    assert [part.smallest for part in parts] == [2, 2]
    assert [[part.weight(step) for step in (0, 3)] for part in parts] == [[1.0, 2 / 3], [1.0, 4 / 3]]
    for rest in (1, 2, 3):
        part = loader(fake(train=48 + rest, size=8).train, repeat=1, batch_size=16, rank=0, world=2)
        assert (len(part), part.smallest) == (3, 8)
    alone = loader(fake(train=50, size=8).train, repeat=1, batch_size=16)
    assert (len(alone), alone.smallest, alone.weight(3)) == (4, 2, 1.0)


def test_a_process_without_samples_is_refused():
    with pytest.raises(ConfigError, match="BATCH_SIZE 2 over 2 processes leaves one of them without samples"):
        loader(fake(train=50, size=8).train, batch_size=2, world=2)
    with pytest.raises(ConfigError, match="2 training images make no batch over 2 processes"):
        loader(fake(train=2, size=8).train, repeat=1, batch_size=16, world=2)


def test_pad_crop_equals_a_crop_of_the_padded_image():
    images = torch.randint(0, 256, (6, 3, 9, 9), dtype=torch.uint8)
    offsets = CounterRNG(1, "crop", 1, torch.arange(6)).integers(5, 2)
    result = pad_crop(images, 2, offsets)
    for image, (top, left), got in zip(images, offsets.tolist(), result):
        assert torch.equal(TF.crop(TF.pad(image, [2]), top, left, 9, 9), got)


def test_random_resized_crop_boxes_are_distributed_as_torchvisions():
    n = 4000
    boxes = random_boxes(CounterRNG(1, "rrc", 1, torch.arange(n)), 60, 80, (0.08, 1.0), (0.75, 4 / 3))
    torch.manual_seed(0)
    image = torch.zeros(3, 60, 80)
    theirs = torch.tensor([RandomResizedCrop.get_params(image, [0.08, 1.0], [0.75, 4 / 3]) for _ in range(n)]).double()
    for column in range(4):
        one, two = boxes[:, column].sort().values, theirs[:, column].sort().values
        grid = torch.linspace(0, 80, 81)
        gap = (torch.searchsorted(one, grid.double()) - torch.searchsorted(two, grid.double())).abs().max() / n
        assert gap < 1.63 * (2 / n) ** 0.5  # Kolmogorov-Smirnov at 1%


def test_crop_and_resize_equals_torchvisions():
    from kdbench.data.augmentation.resample import crop_resize

    images = torch.rand(3, 3, 40, 50)
    boxes = torch.tensor([[3, 5, 20, 30], [0, 0, 40, 50], [10, 11, 5, 7]]).double()
    for cubic, mode in ((False, TF.InterpolationMode.BILINEAR), (True, TF.InterpolationMode.BICUBIC)):
        for size in (16, 64):
            result = crop_resize(images, boxes, size, torch.full((3,), cubic))
            for image, box, got in zip(images, boxes.int().tolist(), result):
                theirs = TF.resized_crop(image, *box, [size, size], interpolation=mode, antialias=True)
                torch.testing.assert_close(got, theirs, rtol=0, atol=1e-5)


def test_evaluation_sees_every_image_once():
    source = fake(test=37, size=8)
    for world in (1, 2, 3):
        parts = [batch for r in range(world) for batch in evaluation_batches(source.test, 8, 0, "cpu", r, world)]
        assert sum(len(labels) for _, labels in parts) == 37
    images, _ = next(iter(evaluation_batches(source.test, 8, 16, "cpu")))
    torch.testing.assert_close(images, TF.resize(source.test.images[:8].float() / 255, [16, 16], antialias=True))
    images, _ = next(iter(evaluation_batches(source.test, 8, 0, "cpu")))
    assert torch.equal(images, source.test.images[:8].float() / 255)


def test_few_shot_subset_and_validation_split():
    labels = torch.arange(400) % 4
    one, two = per_class_subset(labels, 10, 1), per_class_subset(labels, 10, 2)
    assert torch.bincount(labels[one]).tolist() == [10] * 4
    assert not torch.equal(one, two)
    assert set(one.tolist()) <= set(per_class_subset(labels, 20, 1).tolist())
    keep, held = stratified_split(labels, 0.25, stream="x")
    assert torch.bincount(labels[held]).tolist() == [25] * 4
    assert sorted([*keep.tolist(), *held.tolist()]) == list(range(400))
    with pytest.raises(DataError, match="class 0 has 100 training images"):
        per_class_subset(labels, 101, 1)
