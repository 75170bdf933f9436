"""Further looks at a training image: what is drawn for them, and that it is a function of (seed, epoch, sample, look)."""

from __future__ import annotations

import pytest
import torch
from fake_cuda import CUDA, fake, fake_cuda

from kdbench.data.augmentation.augment import Augment
from kdbench.data.augmentation.erase import cutout
from kdbench.data.augmentation.looks import LOOKS
from kdbench.data.loader import TrainLoader
from kdbench.data.source import MemorySplit
from kdbench.errors import IncompatibleError
from kdbench.random import CounterRNG

SIDE = 16
TURNS = {"rot90": 1, "rot180": 2, "rot270": 3}


def split(count: int = 24) -> MemorySplit:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    return MemorySplit(images, torch.arange(count) % 4)


def loader(augment: Augment, *looks: str, **options) -> TrainLoader:
    made = TrainLoader(split(), batch_size=6, seed=1, aug_seed=1, augment=augment, **options)
    made.show(looks)
    return made


PLAIN = Augment("pad", 2, 0.5)


def by_draw(batches, look: str = "") -> dict[int, torch.Tensor]:
    return {
        int(draw): image
        for batch in batches
        for draw, image in zip(batch.draw, batch.looks[look] if look else batch.images)
    }


def test_the_images_that_every_method_sees_stay_as_they_are():
    alone, beside = list(loader(PLAIN).epoch(1)), list(loader(PLAIN, *LOOKS).epoch(1))
    for one, other in zip(alone, beside):
        assert not one.looks
        assert list(other.looks) == list(LOOKS)
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.draw, other.draw)


@pytest.mark.parametrize("look", LOOKS)
def test_a_look_is_a_function_of_seed_epoch_sample_and_name(look):
    """Not of the batch, the other looks, the threads, or where the epoch is begun."""
    whole = by_draw(loader(PLAIN, look).epoch(2), look)
    others = [
        loader(PLAIN, *reversed(LOOKS), workers=2).epoch(2),
        [loader(PLAIN, look).load(torch.tensor([7, 3, 20]), 2)],
        loader(PLAIN, look).epoch(2, 2),
    ]
    for batches in others:
        for draw, image in by_draw(batches, look).items():
            assert torch.equal(image, whole[draw])
    first = by_draw(loader(PLAIN, look).epoch(1), look)
    assert any(not torch.equal(first[draw], image) for draw, image in whole.items())
    seen = by_draw(loader(PLAIN, look).epoch(2))
    assert all(not torch.equal(seen[draw], image) for draw, image in whole.items())


@pytest.mark.parametrize(("look", "turns"), TURNS.items())
def test_a_turned_look_has_the_same_flip_and_is_turned(look, turns):
    """Without a crop nothing else is left."""
    for batch in loader(Augment("none", 0, 0.5), look).epoch(1):
        assert torch.equal(torch.rot90(batch.images, turns, (2, 3)), batch.looks[look])
        flipped = (batch.images - split().images[batch.index].float() / 255).abs().amax((1, 2, 3)) > 1e-6
        assert int(flipped.sum()) > 0 or len(flipped) < 6


def test_a_turned_look_has_a_crop_of_its_own():
    batches = list(loader(Augment("pad", 4, 0.0), "rot180").epoch(1))
    same = [
        torch.equal(one, torch.rot90(two, 2, (1, 2))) for b in batches for one, two in zip(b.images, b.looks["rot180"])
    ]
    assert not all(same)


def test_a_strong_look_is_augmented_beyond_the_runs_own():
    look = LOOKS["strong"](
        Augment("pad", 2, 0.0, color_jitter=0.4, erase=0.3, auto="cifar", statistics=((0.5,) * 3, (0.2,) * 3))
    )
    assert (look.auto, look.color_jitter, look.erase, look.cutout, look.crop) == (
        "rand-m10-n2-p1-mstd101",
        0.0,
        0.0,
        0.5,
        "pad",
    )
    assert look.drawn_by_host
    batches = list(loader(PLAIN, "strong").epoch(1))
    for batch in batches:
        assert batch.looks["strong"].shape == batch.images.shape
        assert 0.0 <= float(batch.looks["strong"].min()) <= float(batch.looks["strong"].max()) <= 1.0
    assert not torch.equal(batches[0].looks["strong"], batches[0].images)


def test_a_cutout_is_a_square_of_the_mean_colour_up_to_its_share():
    images, statistics = torch.zeros(400, 3, 20, 20), ((0.25, 0.5, 0.75), (0.1, 0.1, 0.1))
    index = torch.arange(400)
    found = cutout(images, CounterRNG(1, "cutout", 1, index), 0.5, statistics)
    assert not images.any()
    cut = found[:, 0] > 0
    rows, columns = cut.any(2).sum(1), cut.any(1).sum(1)
    assert torch.equal(cut.sum((1, 2)), rows * columns)  # a rectangle
    assert int(rows.max()) == int(columns.max()) == 10
    assert int(rows.min()) == 0
    assert torch.equal(found[:, :, 10, 10].unique(dim=0), torch.tensor([[0.0, 0.0, 0.0], [0.25, 0.5, 0.75]]))
    for axis in (1, 2):  # centres lie anywhere
        assert cut.any(axis).any(0).all()


def test_mixed_images_have_no_looks():
    with pytest.raises(
        IncompatibleError,
        match=r"AUGMENT\.MIXUP and AUGMENT\.CUTMIX mix one look at an image, and the method sees 'strong'",
    ):
        loader(Augment("none", 0, 0.0, mixup=0.2, num_classes=4), "strong")


@pytest.mark.parametrize("name", LOOKS)
def test_on_a_gpu_nothing_is_read_and_no_devices_are_mixed(name):
    look = LOOKS[name](PLAIN)
    plan = look.draw_on_host(1, 1, torch.arange(4), SIDE)
    with fake_cuda():
        images = fake(4, 3, SIDE, SIDE, dtype=torch.uint8)
        result = look(images, 1, 1, fake(4, dtype=torch.int64), plan=plan.to(CUDA).plan)
        assert result.device == CUDA
        assert result.shape == images.shape
