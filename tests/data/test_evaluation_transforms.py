"""Evaluation is torchvision's, exactly; training crops are torchvision's for the same box."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision.transforms.v2 as T
import torchvision.transforms.v2.functional as TF
from replicas import class_tree, picture
from torchvision.transforms.functional import convert_image_dtype

from kdbench.data.augment import evaluation_images
from kdbench.data.crops import box_draws, boxes_from_draws, enlarge, pad_crop
from kdbench.data.decode import CentreCut, RandomCut, decode
from kdbench.data.folder import folder
from kdbench.data.loader import evaluation_batches
from kdbench.data.resample import crop_resize
from kdbench.random import CounterRNG


@pytest.mark.parametrize(("size", "crop_pct"), [(40, 0.875), (32, 1.0), (24, 0.95)])
def test_files_equal_torchvision(tmp_path, size, crop_pct):
    split = folder(str(class_tree(tmp_path, ["a", "b"], {"train": 3, "val": 3}))).test
    reference = T.Compose([T.Resize(round(size / crop_pct), antialias=True), T.CenterCrop(size)])
    expected = torch.stack([convert_image_dtype(reference(decode(split.root / f))) for f in split.files])
    got = torch.cat([x for x, _ in evaluation_batches(split, 4, size, "cpu", crop_pct=crop_pct)])
    assert torch.equal(got, expected)
    assert torch.equal(
        CentreCut(size, crop_pct)(decode(split.root / split.files[0]), 0).float().div(255.0), expected[0]
    )


@pytest.mark.parametrize("size", [0, 32, 64, 20, 224])
def test_memory_equals_torchvision(size):
    images = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    expected = convert_image_dtype(images)  # as ToTensor does; v2's ToDtype rounds the last bit otherwise
    if size:
        expected = T.Resize((size, size), antialias=True)(expected)
    assert torch.equal(evaluation_images(images, size), expected)


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
