"""Repeated augmentation: the images of timm's sampler, step by step, each copy with pixels of its own, whoever loads it."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from fake_cuda import CUDA, fake_cuda
from small_loaders import AUGMENTS, RICH, loader, memory
from timm.data.distributed_sampler import RepeatAugSampler

import kdbench.data.order as order_module
from kdbench.config.values import epoch_length
from kdbench.data.loader import TrainLoader
from kdbench.data.order import Order
from kdbench.random import permutation


@pytest.fixture
def timms_shuffle(monkeypatch):
    """Images are shuffled as timm's sampler shuffles them."""

    def shuffle(seed: int, stream: str, epoch: int, n: int, device: object) -> torch.Tensor:
        return torch.randperm(n, generator=torch.Generator().manual_seed(epoch))

    monkeypatch.setattr(order_module, "permutation", shuffle)


@pytest.mark.parametrize("world", [1, 2, 4])
@pytest.mark.parametrize("copies", [2, 3])
@pytest.mark.parametrize("images", [200, 256, 1100])
def test_every_step_has_the_images_of_timms(images, copies, world, timms_shuffle):
    batch = 24
    samplers = [RepeatAugSampler(range(images), world, rank, num_repeats=copies) for rank in range(world)]
    for sampler in samplers:
        sampler.set_epoch(5)
    theirs = torch.tensor([list(sampler) for sampler in samplers])
    own = Order(1, images, batch, copies)
    assert own.total == theirs.numel()
    draws = own.draws(5)
    assert len(draws) == own.total
    for mine, step in zip(draws.split(batch), theirs.split(batch // world, dim=1)):
        assert Counter((mine % images).tolist()) == Counter(step.flatten().tolist())


def test_no_draw_comes_twice_and_copies_are_numbered():
    order = Order(1, 600, 32, 3)
    draws = order.draws(1)
    assert len(set(draws.tolist())) == len(draws) == order.total == 512
    assert {int(draw) // 600 for draw in draws} == {0, 1, 2}
    times = Counter((draws % 600).tolist())
    assert sorted(times.values())[:2] == [2, 3]  # the last image is cut off
    assert len(times) == 171


def test_without_copies_it_is_the_permutation():
    for copies in (0,):
        assert torch.equal(Order(3, 70, 8, copies).draws(2), permutation(3, "order", 2, 70))
    assert Order(3, 70, 8).places(2) is None
    assert [epoch_length(n) for n in (70, 257)] == [70, 257]


def test_epochs_have_other_images_and_seeds_as_well():
    sets = [set((Order(seed, 600, 32, 3).draws(epoch) % 600).tolist()) for seed, epoch in ((1, 1), (1, 2), (2, 1))]
    assert sets[0] != sets[1]
    assert sets[0] != sets[2]


def test_a_draws_place_is_where_it_stands():
    order = Order(1, 300, 16, 3)
    draws, places = order.draws(4), order.places(4)
    assert places is not None
    assert torch.equal(places[draws], torch.arange(order.total))
    assert int((places == order.total).sum()) == 900 - order.total  # a row that no view has


def test_copies_of_an_image_are_on_different_processes():
    """Where there are as many processes as copies; only an image at the border of two batches has fewer in either."""
    split, found = memory(320), []
    loaders = [loader(split, AUGMENTS["pad"], batch_size=48, aug_repeats=3, rank=r, world=4) for r in range(4)]
    for parts in zip(*(one.epoch(1) for one in loaders)):
        for part in parts:
            found.append(len(set(part.index.tolist())) == len(part.index))
    assert found
    assert all(found)


@pytest.mark.parametrize("batch", [6, 8, 32, 50])
def test_no_image_is_mixed_with_itself(batch):
    order = Order(2, 512, batch, 3)
    whole = order.draws(1)[: order.total // batch * batch]
    pairs = (whole % 512).view(-1, 2)
    assert bool((pairs[:, 0] != pairs[:, 1]).all())


def contents(*loaders: TrainLoader, epoch: int = 1, start: int = 0) -> list[tuple[int, bytes, bytes]]:
    """Draw, pixels and label of each sample, in order; several loaders are the ranks of one run."""
    found = []
    for parts in zip(*(one.epoch(epoch, start) for one in loaders)):
        for part in parts:
            for image, label, draw in zip(part.images, part.target, part.draw):
                found.append((int(draw), image.numpy().tobytes(), label.numpy().tobytes()))
    return found


@pytest.mark.parametrize("name", ["pad", "rich"])
def test_workers_ranks_and_restarts_change_no_pixel(name):
    split, augment = memory(), AUGMENTS[name]
    expected = contents(loader(split, augment, aug_repeats=3))
    assert len({pixels for _, pixels, _ in expected}) == len(expected) == 70
    for workers in (1, 2):
        assert contents(loader(split, augment, aug_repeats=3, workers=workers)) == expected
    for world in (2, 3):
        ranks = [loader(split, augment, aug_repeats=3, rank=r, world=world) for r in range(world)]
        assert contents(*ranks) == expected
    assert contents(loader(split, augment, aug_repeats=3), start=4) == expected[32:]


def test_the_first_copy_has_the_pixels_that_it_has_alone():
    alone = {draw: pixels for draw, pixels, _ in contents(loader(memory(), AUGMENTS["rrc"]))}
    copies = {draw: pixels for draw, pixels, _ in contents(loader(memory(), AUGMENTS["rrc"], aug_repeats=3))}
    both = alone.keys() & copies.keys()
    assert len(both) == 24
    assert all(alone[draw] == copies[draw] for draw in both)


def test_passes_and_copies_together():
    one = loader(memory(40), AUGMENTS["pad"], repeat=2, aug_repeats=2)
    draws = torch.cat([batch.draw for batch in one.epoch(1)])
    assert len(draws) == 80
    assert int(draws.max()) >= 80  # second copies stand behind both passes
    assert Counter((draws % 80).tolist()).most_common(1)[0][1] == 2


def test_it_is_made_on_the_device():
    with fake_cuda():
        order = loader(memory(), RICH, device=CUDA, aug_repeats=3).order(3)
        assert (order.device, order.shape, order.dtype) == (CUDA, (70,), torch.int64)
