"""What is drawn has the distribution of torchvision's and timm's draws."""

from __future__ import annotations

import random
from collections import Counter
from itertools import permutations

import numpy as np
import pytest
import torch
from scipy import stats
from timm.data.mixup import Mixup, cutmix_bbox_and_lam
from timm.data.random_erasing import RandomErasing
from torchvision.transforms import RandomResizedCrop

from kdbench.data.augmentation.colour import jitter_draws
from kdbench.data.augmentation.crops import random_boxes
from kdbench.data.augmentation.erase import erase, erase_boxes
from kdbench.data.augmentation.mixing import mix_pairs, mixing_draws, soft_labels
from kdbench.data.augmentation.policies.policy import CifarPolicy, make_policy
from kdbench.random import CounterRNG

N = 6000
P = 1e-3  # seeds are fixed: a test fails or passes for good


def rng(stream: str, count: int = N) -> CounterRNG:
    return CounterRNG(3, stream, 1, torch.arange(count))


def same_law(ours, theirs) -> None:
    assert stats.ks_2samp(np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)).pvalue > P


@pytest.mark.parametrize(("height", "width"), [(32, 32), (375, 500), (40, 160), (300, 60)])
def test_random_resized_crop(height, width):
    torch.manual_seed(0)
    image = torch.empty(3, height, width)
    theirs = torch.tensor([RandomResizedCrop.get_params(image, [0.08, 1.0], [0.75, 4 / 3]) for _ in range(N)]).double()
    ours = random_boxes(rng("boxes"), height, width, (0.08, 1.0), (0.75, 4 / 3))
    for a, b in zip(ours.T, theirs.T):
        same_law(a, b)
    same_law(ours[:, 2] * ours[:, 3], theirs[:, 2] * theirs[:, 3])
    same_law(ours[:, 3] / ours[:, 2], theirs[:, 3] / theirs[:, 2])
    assert bool((ours[:, 0] + ours[:, 2] <= height).all() and (ours[:, 1] + ours[:, 3] <= width).all())
    assert bool((ours[:, :2] >= 0).all() and (ours[:, 2:] >= 1).all())


def test_crops_that_never_fit_are_centred():
    for height, width in ((10, 400), (400, 10)):
        ours = random_boxes(rng("never", 50), height, width, (0.99, 1.0), (0.75, 4 / 3))
        theirs = RandomResizedCrop.get_params(torch.empty(3, height, width), [0.99, 1.0], [0.75, 4 / 3])
        assert ours.unique(dim=0).tolist() == [[float(v) for v in theirs]]


def test_rand_augment_draws():
    policy = make_policy("rand-m9-mstd0.5-inc1")
    layers = policy.draw(lambda stream: rng(stream))
    assert len(layers) == 2
    for layer in layers:
        assert stats.chisquare(torch.bincount(layer.op, minlength=15)).pvalue > P
        assert stats.binomtest(int(layer.applied.sum()), N, 0.5).pvalue > P
        assert stats.binomtest(int(layer.negative.sum()), N, 0.5).pvalue > P
        theirs = np.clip(np.random.default_rng(0).normal(9, 0.5, N), 0, 10)
        same_law(layer.level, theirs)
    joint = torch.bincount(layers[0].op * 15 + layers[1].op, minlength=225)
    assert stats.chisquare(joint).pvalue > P
    table = np.zeros((2, 2))
    np.add.at(table, (layers[0].applied.numpy().astype(int), layers[1].applied.numpy().astype(int)), 1)
    assert stats.chi2_contingency(table).pvalue > P
    uniform = make_policy("rand-m8-mstd101").draw(lambda stream: rng(stream))[0].level
    assert stats.kstest(uniform.numpy(), stats.uniform(0, 8).cdf).pvalue > P


def test_auto_augment_draws():
    policy = CifarPolicy()
    first, second = policy.draw(lambda stream: rng(stream))
    drawn = Counter(zip(first.op.tolist(), second.op.tolist(), first.level.tolist(), second.level.tolist()))
    table = policy._table
    listed = Counter((int(a[0]), int(b[0]), float(a[2]), float(b[2])) for a, b in table)
    assert set(drawn) == set(listed)
    assert stats.chisquare([drawn[k] for k in listed], [n * N / 25 for n in listed.values()]).pvalue > P
    rotate = (first.op == policy.names.index("Rotate")).nonzero().flatten()
    assert stats.binomtest(int(first.applied[rotate].sum()), len(rotate), 0.7).pvalue > P
    never = (second.op == policy.names.index("Invert")) & (first.op == policy.names.index("Solarize"))
    assert not bool(second.applied[never].any())


def test_colour_jitter_draws():
    factors, order = jitter_draws(rng("jitter"), 0.4)
    for column in factors.T:
        assert stats.kstest(column.numpy(), stats.uniform(0.6, 0.8).cdf).pvalue > P
    counts = [int((order == torch.tensor(p)).all(1).sum()) for p in permutations(range(3))]
    assert sum(counts) == N
    assert stats.chisquare(counts).pvalue > P


@pytest.mark.parametrize("size", [32, 224])
def test_erasing(size):
    boxes = erase_boxes(rng("erase"), size, size, 0.25)
    done = boxes[:, 2] > 0
    assert stats.binomtest(int(done.sum()), N, 0.25).pvalue > P
    ours = erase_boxes(rng("erase"), size, size, 1.0)
    random.seed(0)
    theirs = []
    timm_erasing = RandomErasing(1.0, mode="const", device="cpu")
    for _ in range(2000):
        image = torch.ones(1, size, size)
        timm_erasing(image)
        rows, columns = (image[0] == 0).nonzero().unbind(1)
        theirs.append(
            (
                int(rows.min()),
                int(columns.min()),
                int(rows.max() - rows.min()) + 1,
                int(columns.max() - columns.min()) + 1,
            )
        )
    found = np.array(theirs)
    for i in range(4):
        same_law(ours[:, i], found[:, i])
    same_law(ours[:, 2] * ours[:, 3], found[:, 2] * found[:, 3])
    same_law(ours[:, 2] / ours[:, 3], found[:, 2] / found[:, 3])


def test_erasing_noise_is_normal_after_normalisation():
    statistics = ((0.5, 0.4, 0.3), (0.25, 0.2, 0.1))
    images = torch.full((64, 3, 64, 64), 7.0)
    boxes = erase_boxes(rng("erase", 64), 64, 64, 1.0)
    before = images.clone()
    erased = erase(images, boxes, rng("noise", 64), statistics)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in statistics)
    changed = erased != before
    assert changed.sum() == 3 * int((boxes[:, 2] * boxes[:, 3]).sum())
    values = ((erased - mean) / std)[changed]
    assert stats.kstest(values.numpy()[::7], "norm").pvalue > P
    # two samples read different stretches of noise
    rows = [((erased[i] - mean[0]) / std[0])[changed[i]][:500].numpy() for i in range(2)]
    assert abs(np.corrcoef(rows)[0, 1]) < 0.2


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.8, 0.0), (0.0, 1.0), (0.8, 1.0), (0.2, 0.0)])
def test_mixing_shares(mixup, cutmix):
    share, box = mixing_draws(rng("mix"), mixup, cutmix, 0.5, 224, 224)
    np.random.seed(0)  # noqa: NPY002 - timm draws from the global stream
    reference = Mixup(mixup_alpha=mixup, cutmix_alpha=cutmix, switch_prob=0.5, mode="pair", num_classes=10)
    lam, use_cutmix = reference._params_per_elem(N)
    theirs = [cutmix_bbox_and_lam((3, 224, 224), v)[1] if c else v for v, c in zip(lam, use_cutmix)]
    same_law(share, theirs)
    cut = box[:, 1] > box[:, 0]
    if mixup and cutmix:
        assert stats.binomtest(int(cut.sum()), N, 0.5).pvalue > P / 10 or abs(int(cut.sum()) / N - 0.5) < 0.03
    if not cutmix:
        assert not bool(cut.any())
        assert stats.kstest(share.numpy(), stats.beta(mixup, mixup).cdf).pvalue > P
    area = ((box[:, 1] - box[:, 0]) * (box[:, 3] - box[:, 2])).double()[cut]
    assert torch.allclose(share[cut], 1 - area / 224**2)


def test_mix_pairs():
    images = torch.arange(5.0).view(5, 1, 1, 1).expand(5, 3, 8, 8).clone()
    labels = soft_labels(torch.tensor([0, 1, 2, 0, 1]), 3, 0.3)
    assert torch.allclose(labels[0], torch.tensor([0.8, 0.1, 0.1]))
    share = torch.tensor([0.7, 1 - 4 / 64], dtype=torch.float64)
    box = torch.tensor([[0, 0, 0, 0], [2, 4, 3, 5]])
    mixed, soft = mix_pairs(images.clone(), labels, share, box)
    assert torch.allclose(mixed[0], torch.full((3, 8, 8), 0.3))
    assert torch.allclose(mixed[1], torch.full((3, 8, 8), 0.7))
    inside = torch.zeros(8, 8, dtype=torch.bool)
    inside[2:4, 3:5] = True
    assert bool((mixed[2][:, inside] == 3).all() and (mixed[2][:, ~inside] == 2).all())
    assert bool((mixed[3][:, inside] == 2).all() and (mixed[3][:, ~inside] == 3).all())
    assert torch.equal(mixed[4], images[4])
    assert torch.allclose(soft[0], 0.7 * labels[0] + 0.3 * labels[1])
    assert torch.allclose(soft[3], (1 - 4 / 64) * labels[3] + 4 / 64 * labels[2])
    assert torch.equal(soft[4], labels[4])
    assert torch.allclose(soft.sum(1), torch.ones(5))
