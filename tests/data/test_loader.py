"""The same pixels whoever loads them: any number of workers, any number of ranks, from any place in a run."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import replace

import pytest
import torch
from replicas import class_tree
from small_loaders import AUGMENTS, RICH, loader, memory

import kdbench.data.loader as loader_module
from kdbench.config.load import load_config
from kdbench.data.augmentation import forms
from kdbench.data.augmentation.augment import Augment
from kdbench.data.loader import TrainLoader, evaluation_batches
from kdbench.data.prefetch import ahead
from kdbench.data.resident import Resident
from kdbench.data.sets.folder import folder
from kdbench.data.source import Standard
from kdbench.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return folder(str(class_tree(tmp_path_factory.mktemp("tree"), list("abcde"), {"train": 6, "val": 1}))).train


def hashes(*loaders: TrainLoader, epoch: int = 1) -> list[str]:
    """One hash a sample, in the order of the epoch; several loaders are the ranks of one run."""
    found: list[str] = []
    for parts in zip(*(one.epoch(epoch) for one in loaders)):
        for part in parts:
            for image, label, draw in zip(part.images, part.target, part.draw):
                content = image.numpy().tobytes() + label.numpy().tobytes() + str(int(draw)).encode()
                found.append(hashlib.sha256(content).hexdigest())
    return found


@pytest.mark.parametrize("name", list(AUGMENTS))
@pytest.mark.parametrize("kind", ["memory", "files"])
def test_workers_ranks_and_batches_change_no_pixel(name, kind, files):
    split, augment = (memory() if kind == "memory" else files), AUGMENTS[name]
    if kind == "files":
        augment = replace(augment, size=augment.size or 40)
    expected = hashes(loader(split, augment))
    assert len(set(expected)) == len(expected) == len(split)
    for workers in (1, 2, 4):
        assert hashes(loader(split, augment, workers=workers)) == expected
    for world in (2, 3):
        assert hashes(*(loader(split, augment, rank=r, world=world, workers=r) for r in range(world))) == expected
    assert hashes(loader(split, augment, batch_size=14)) == expected
    assert hashes(loader(split, augment), epoch=2) != expected


@pytest.mark.parametrize("kind", ["memory", "files"])
def test_a_restart_sees_the_rest_of_the_same_epoch(kind, files):
    split = memory() if kind == "memory" else files
    whole = list(loader(split, RICH).epoch(3))
    again = loader(split, RICH)
    order = again.order(3)
    for step in (2, 3):
        batch = again.load(order[8 * step : 8 * step + 8], 3, 8 * step)
        assert torch.equal(batch.images, whole[step].images)
        assert torch.equal(batch.target, whole[step].target)
        assert torch.equal(batch.draw, whole[step].draw)


def test_threads_of_the_main_process_change_no_pixel():
    augment = AUGMENTS["rich"]
    old = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(hashes(loader(memory(), augment)))
    finally:
        torch.set_num_threads(old)
    assert found[0] == found[1]


def test_augmenting_in_the_consumer_changes_no_pixel(files):
    for split in (memory(), files):
        late = loader(split, AUGMENTS["rich"], workers=2)
        late._early = False  # as with a GPU
        assert hashes(late) == hashes(loader(split, AUGMENTS["rich"]))


@pytest.mark.parametrize("name", list(AUGMENTS))
@pytest.mark.parametrize("world", [1, 3])
def test_the_way_of_a_gpu_changes_no_pixel(name, world, monkeypatch):
    """Images that live on the device, the forms of augmentation for one, other chunks: all with tensors of a CPU."""
    split = memory()
    ranks = [loader(split, AUGMENTS[name], repeat=2, rank=rank, world=world) for rank in range(world)]
    expected = [hashes(*ranks, epoch=epoch) for epoch in (1, 2)]
    monkeypatch.setattr(loader_module, "resident", lambda split, device: Resident(split, device))
    monkeypatch.setattr(loader_module, "_CHUNK_PIXELS_GPU", 3 * 8 * 48 * 48)
    monkeypatch.setattr(forms, "by_host", lambda images: False)
    for one in ranks:
        one._early = False
    assert [hashes(*ranks, epoch=epoch) for epoch in (1, 2)] == expected


def test_seeds_and_repeats():
    split, augment = memory(), AUGMENTS["pad"]
    first = list(loader(split, augment, repeat=2).epoch(1))
    draws = torch.cat([b.draw for b in first])
    assert sorted(draws.tolist()) == list(range(140))
    assert all(torch.equal(b.index, b.draw % 70) for b in first)
    assert all(torch.equal(b.target, split.labels[b.index]) for b in first)
    assert not first[0].smoothing_included
    assert hashes(loader(split, augment, aug_seed=3)) != hashes(loader(split, augment))


def test_mixing_pairs_neighbours_of_the_order():
    split = memory()
    plain = list(loader(split, replace(RICH, mixup=0.0, cutmix=0.0)).epoch(1))
    mixed = list(loader(split, replace(RICH, cutmix=0.0)).epoch(1))
    for a, b in zip(plain, mixed):
        assert b.smoothing_included
        assert b.target.shape == (len(b.draw), 5)
        assert torch.allclose(b.target.sum(1), torch.ones(len(b.draw)))
        total = a.images[0::2] + a.images[1::2]
        assert torch.allclose(b.images[0::2] + b.images[1::2], total, atol=1e-5)
    with pytest.raises(ConfigError, match=r"even SOLVER\.BATCH_SIZE, got 7"):
        loader(split, RICH, batch_size=7)
    with pytest.raises(ConfigError, match="number of classes"):
        replace(RICH, num_classes=0)


def test_images_are_in_range_and_their_shape():
    for augment in AUGMENTS.values():
        batch = next(loader(memory(), replace(augment, erase=0.0)).epoch(1))
        side = augment.size or 32
        assert batch.images.shape == (8, 3, side, side)
        assert batch.images.dtype == torch.float32
        assert float(batch.images.min()) >= 0.0
        assert float(batch.images.max()) <= 1.0 + 1e-6


def test_augmentation_leaves_the_data_set_alone():
    split = memory()
    before = split.images.clone()
    for augment in AUGMENTS.values():
        hashes(loader(split, augment))
        augment(split.images, 1, 1, torch.arange(70))
    assert torch.equal(split.images, before)


def test_from_config():
    overrides = {"AUGMENT.AUTO": "cifar", "AUGMENT.ERASE": 0.25, "AUGMENT.MIXUP": 0.8, "SOLVER.LABEL_SMOOTHING": 0.1}
    augment = Augment.from_config(load_config(None, overrides), Standard(), 0, num_classes=7)
    assert (augment.auto, augment.erase, augment.mixup, augment.smoothing) == ("cifar", 0.25, 0.8, 0.1)
    assert (augment.crop, augment.pad, augment.num_classes) == ("pad", 4, 7)
    with pytest.raises(ConfigError, match=r"AUGMENT\.AUTO"):
        Augment.from_config(load_config(None, {"AUGMENT.AUTO": "rand-x"}), Standard(), 0)
    with pytest.raises(ConfigError, match=r"AUGMENT\.ERASE: 2 lies outside"):
        load_config(None, {"AUGMENT.ERASE": 2.0})


def workers_alive() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("kdbench-data")]


def test_prefetching_is_ordered_lazy_and_ends():
    started = []

    def work(item: int) -> int:
        started.append(item)
        return item * item

    results = ahead(work, range(100), 3, depth=2)
    assert [next(results) for _ in range(5)] == [0, 1, 4, 9, 16]
    assert len(started) <= 5 + 7
    assert workers_alive()
    results.close()
    assert not workers_alive()
    assert list(ahead(work, range(20), 4)) == [i * i for i in range(20)]
    assert not workers_alive()
    assert list(ahead(work, [], 2)) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_file_stops_the_epoch(tmp_path, workers):
    tree = class_tree(tmp_path, ["a", "b"], {"train": 8, "val": 1})
    (tree / "train" / "a" / "a_3.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    one = loader(folder(str(tree)).train, AUGMENTS["rrc"], workers=workers, batch_size=4)
    with pytest.raises(DataError, match=r"a_3\.jpg"):
        list(one.epoch(1))
    assert not workers_alive()


@pytest.mark.parametrize("kind", ["memory", "files"])
def test_evaluation_sees_every_image_once(kind, files):
    split = memory() if kind == "memory" else files
    expected = torch.cat([images for images, _ in evaluation_batches(split, 16, 40, "cpu")])
    assert expected.shape == (len(split), 3, 40, 40)
    for workers in (1, 3):
        got = [images for images, _ in evaluation_batches(split, 16, 40, "cpu", workers=workers)]
        assert torch.equal(torch.cat(got), expected)
    for rank in range(2):
        parts = list(evaluation_batches(split, 5, 40, "cpu", rank, 2))
        assert torch.equal(torch.cat([images for images, _ in parts]), expected[rank::2])
        assert torch.equal(torch.cat([labels for _, labels in parts]), split.labels[rank::2])
