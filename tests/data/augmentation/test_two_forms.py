"""The form for devices gives the bits of the form for CPUs; on a GPU it reads nothing and mixes no devices."""

from __future__ import annotations

import itertools

import pytest
import torch
from fake_cuda import CUDA, fake, fake_cuda
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from kdbench.data.augmentation import forms
from kdbench.data.augmentation.augment import Augment, evaluation_images
from kdbench.data.augmentation.crops import flip_some, pad_crop
from kdbench.data.augmentation.decode import CentreCut
from kdbench.data.augmentation.policies.ops import COLOUR, apply_op

B = 33
CROPS = [("pad", 0), ("none", 0), ("rrc", 0), ("rrc", 24), ("pad", 24), ("pad", 48)]
COLOURS = [("", 0.0), ("rand-m9-mstd0.5-inc1", 0.0), ("rand-m7-n3-p1.0", 0.0), ("cifar", 0.0), ("", 0.4)]
MIXES = [(0.0, 0.0), (0.8, 1.0), (0.0, 1.0), (0.2, 0.0)]


def augment(crop: str, size: int, auto: str, jitter: float, interpolation: str, mix: tuple[float, float]) -> Augment:
    return Augment(
        crop,
        3 if crop == "pad" else 0,
        0.5,
        interpolation=interpolation,
        size=size,
        auto=auto,
        color_jitter=jitter,
        erase=0.6,
        mixup=mix[0],
        cutmix=mix[1],
        num_classes=7,
        smoothing=0.1,
    )


def pictures(count: int, side: int, seed: int) -> torch.Tensor:
    """Noise, some of it of few grey levels, and one image of one colour."""
    images = torch.randint(
        0, 256, (count, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )
    images[1::4] //= 64
    images[2::4] = images[2::4] // 3 + 90
    images[5] = 77
    return images


@pytest.fixture
def device_form(monkeypatch):
    """The form for devices, on a CPU's tensors."""

    def switch(on: bool) -> None:
        monkeypatch.setattr(forms, "by_host", (lambda images: False) if on else (lambda images: True))

    return switch


@pytest.mark.parametrize("side", [8, 17, 32])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "random"])
def test_both_forms_give_the_same_bits(side, interpolation, device_form):
    for number, ((crop, size), (auto, jitter), mix) in enumerate(itertools.product(CROPS, COLOURS, MIXES)):
        one = augment(crop, size, auto, jitter, interpolation, mix)
        images, draw = pictures(B, side, number), torch.arange(number * B, (number + 1) * B)
        drawn = one.draw_on_host(3, 2, draw, size or side, torch.arange(B // 2))
        found = []
        for on in (False, True):
            device_form(on)
            done, labels = one(images.clone(), 3, 2, draw, plan=drawn.plan), draw % 7
            if drawn.mixing is not None:
                done, labels = one.mix(done, labels, drawn.mixing)
            found.append((done, labels))
        assert torch.equal(found[0][0], found[1][0]), one
        assert torch.equal(found[0][1], found[1][1]), one


@pytest.mark.parametrize("name", sorted(COLOUR))
@pytest.mark.parametrize("side", [1, 2, 7, 40])
def test_both_forms_of_an_operation(name, side, device_form):
    images, argument = pictures(12, side, side), torch.linspace(0.0, 2.0, 12)
    device_form(False)
    expected = apply_op(name, images, argument)
    device_form(True)
    assert torch.equal(apply_op(name, images, argument), expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("shape", [(20, 3, 9, 9), (1, 3, 4, 6), (7, 1, 5, 3)])
def test_both_forms_of_crop_and_flip(dtype, shape, device_form):
    images = torch.randint(0, 256, shape, dtype=torch.uint8).to(dtype)
    for pad in (1, 4):
        offsets, flipped = torch.randint(0, 2 * pad + 1, (shape[0], 2)), torch.rand(shape[0]) < 0.5
        found = []
        for on in (False, True):
            device_form(on)
            found.append(
                [pad_crop(images, pad, offsets, flipped), pad_crop(images, pad, offsets), flip_some(images, flipped)]
            )
        assert all(torch.equal(a, b) for a, b in zip(*found))
        assert found[1][0].dtype == dtype


@pytest.mark.parametrize(("crop", "size"), CROPS)
@pytest.mark.parametrize(("auto", "jitter"), COLOURS)
def test_on_a_gpu_nothing_is_read(crop, size, auto, jitter):
    one = augment(crop, size, auto, jitter, "random", (0.8, 1.0))
    drawn = one.draw_on_host(1, 1, torch.arange(64), size or 32, torch.arange(32))
    assert drawn.mixing is not None
    with fake_cuda():
        images, draw, labels = fake(64, 3, 32, 32, dtype=torch.uint8), *(fake(64, dtype=torch.int64) for _ in range(2))
        there = drawn.to(CUDA)
        done, soft = one.mix(one(images, 1, 1, draw, plan=there.plan), labels, there.mixing)
        assert done.device == soft.device == CUDA
        assert (done.shape, soft.shape) == ((64, 3, size or 32, size or 32), (64, 7))


def test_evaluation_images_on_a_gpu():
    with fake_cuda():
        done = evaluation_images(fake(5, 3, 32, 32, dtype=torch.uint8), CentreCut(24, 0.875, "bicubic"))
        assert (done.device, done.shape) == (CUDA, (5, 3, 24, 24))


def test_the_gpu_that_is_not_there_notices(monkeypatch):
    """The form for CPUs reads what was drawn, and a policy without its plan reads the draws: neither may pass there."""
    plain, policy = (augment("pad", 0, auto, 0.0, "bilinear", (0.0, 0.0)) for auto in ("", "cifar"))
    with fake_cuda():
        images, draw = fake(64, 3, 32, 32, dtype=torch.uint8), fake(64, dtype=torch.int64)
        with pytest.raises((DataDependentOutputException, DynamicOutputShapeException)):
            policy(images, 1, 1, draw)
        monkeypatch.setattr(forms, "by_host", lambda images: True)
        with pytest.raises((DataDependentOutputException, DynamicOutputShapeException)):
            plain(images, 1, 1, draw)
        with pytest.raises(RuntimeError, match="device"):
            images + torch.ones(64, 3, 32, 32)
