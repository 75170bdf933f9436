"""Evaluation is torchvision's, exactly; training crops are torchvision's for the same box."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torchvision.transforms.v2 as T
import torchvision.transforms.v2.functional as TF
from replicas import class_tree, picture
from timm.data import create_transform
from torchvision.transforms.functional import convert_image_dtype

from kdbench.data.augmentation.crops import box_draws, boxes_from_draws, enlarge, pad_crop
from kdbench.data.augmentation.decode import CentreCut, RandomCut, decode
from kdbench.data.augmentation.resample import crop_resize
from kdbench.data.loader import evaluation_batches
from kdbench.data.sets.folder import folder
from kdbench.data.source import MemorySplit
from kdbench.random import CounterRNG


@pytest.mark.parametrize(
    ("size", "crop_pct", "mode"), [(40, 0.875, "bilinear"), (32, 1.0, "bicubic"), (24, 0.95, "bicubic")]
)
def test_files_equal_torchvision(tmp_path, size, crop_pct, mode):
    split = folder(str(class_tree(tmp_path, ["a", "b"], {"train": 3, "val": 3}))).test
    resize = T.Resize(math.floor(size / crop_pct), TF.InterpolationMode(mode), antialias=True)
    reference = T.Compose([resize, T.CenterCrop(size)])
    expected = torch.stack([convert_image_dtype(reference(decode(split.root / f))) for f in split.files])
    got = torch.cat([x for x, _ in evaluation_batches(split, 4, size, "cpu", crop_pct=crop_pct, interpolation=mode)])
    assert torch.equal(got, expected)
    cut = CentreCut(size, crop_pct, mode)
    assert torch.equal(cut(decode(split.root / split.files[0])).float().div(255.0), expected[0])


@pytest.mark.parametrize(("size", "crop_pct"), [(224, 0.9), (224, 0.875), (224, 0.95), (240, 0.9), (256, 0.95)])
def test_sizes_are_timms(size, crop_pct):
    ours = CentreCut(size, crop_pct)(torch.zeros(3, 50, 70))
    steps = create_transform(size, is_training=False, crop_pct=crop_pct).transforms
    assert ours.shape[-2:] == (size, size)
    cut = CentreCut(size, crop_pct)
    gradient = torch.linspace(0, 1, 70).expand(3, 50, 70)
    side = steps[0].size if isinstance(steps[0].size, int) else steps[0].size[0]
    expected = TF.center_crop(TF.resize(gradient, [side], antialias=True), [size, size])
    assert torch.equal(cut(gradient), expected)


@pytest.mark.parametrize("size", [0, 32, 64, 20, 224])
def test_memory_equals_torchvision(size):
    images = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    expected = convert_image_dtype(images)  # as ToTensor does; v2's ToDtype rounds the last bit otherwise
    if size:
        expected = T.Resize((size, size), antialias=True)(expected)
    split = MemorySplit(images, torch.zeros(5, dtype=torch.int64))
    assert torch.equal(next(iter(evaluation_batches(split, 5, size, "cpu")))[0], expected)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_memory_is_cut_in_the_centre_where_it_is_asked_for(mode):
    images = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    large = TF.resize(convert_image_dtype(images), [256, 256], TF.InterpolationMode(mode), antialias=True)
    split = MemorySplit(images, torch.zeros(5, dtype=torch.int64))
    got = next(iter(evaluation_batches(split, 5, 224, "cpu", crop_pct=0.875, interpolation=mode)))[0]
    torch.testing.assert_close(got, TF.center_crop(large, [224, 224]).clamp(0, 1), rtol=0, atol=0)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_batched_crops_equal_torchvision(mode):
    images = torch.rand(6, 3, 32, 40, generator=torch.Generator().manual_seed(2))
    draws = box_draws(CounterRNG(0, "boxes", 1, torch.arange(6)))
    boxes = boxes_from_draws(draws, 32, 40, (0.08, 1.0), (0.75, 4 / 3))
    flipped = torch.tensor([True, False] * 3)
    cubic = torch.full((6,), mode == "bicubic")
    got = crop_resize(images, boxes, 48, cubic, flipped)
    for image, box, mirror, result in zip(images, boxes.int().tolist(), flipped, got):
        expected = TF.resized_crop(image, *box, [48, 48], interpolation=TF.InterpolationMode(mode), antialias=True)
        expected = expected.flip(-1) if mirror else expected
        assert torch.allclose(result, expected, atol=2e-4)
    alone = torch.cat([crop_resize(images[i : i + 1], boxes[i : i + 1], 48, cubic[i : i + 1]) for i in range(6)])
    together = crop_resize(images, boxes, 48, cubic)
    assert torch.equal(alone, together)


@pytest.mark.parametrize("cubic", [False, True])
def test_file_crops_equal_torchvision(cubic):
    draws = box_draws(CounterRNG(0, "boxes", 1, torch.arange(4)))
    cut = RandomCut(draws, torch.full((4,), cubic), 32, (0.08, 1.0), (0.75, 4 / 3))
    for row in range(4):
        image = torch.from_numpy(np.array(picture(row, 70 + 9 * row, 55))).permute(2, 0, 1)
        box = boxes_from_draws(draws[row : row + 1], *image.shape[-2:], (0.08, 1.0), (0.75, 4 / 3))[0].int().tolist()
        mode = TF.InterpolationMode.BICUBIC if cubic else TF.InterpolationMode.BILINEAR
        expected = TF.resized_crop(image, *box, [32, 32], interpolation=mode, antialias=True)
        assert torch.equal(cut(image, row), expected)


def test_enlarging_equals_torchvision():
    images = torch.rand(3, 3, 32, 32)
    assert torch.allclose(enlarge(images, 224), TF.resize(images, [224, 224], antialias=True), atol=2e-5)


@pytest.mark.parametrize("pad", [1, 4])
def test_pad_crop(pad):
    images = torch.randint(0, 256, (50, 3, 9, 11), dtype=torch.uint8)
    offsets = torch.randint(0, 2 * pad + 1, (50, 2))
    flipped = torch.rand(50) < 0.5
    got = pad_crop(images, pad, offsets, flipped)
    for image, (top, left), mirror, result in zip(images, offsets.tolist(), flipped, got):
        expected = TF.crop(TF.pad(image, [pad]), top, left, 9, 11)
        assert torch.equal(result, expected.flip(-1) if mirror else expected)
    assert torch.equal(pad_crop(images, pad, offsets)[~flipped], got[~flipped])
