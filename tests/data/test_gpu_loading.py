"""Loading for a GPU, as far as it shows without one: what the device does reads nothing, and the stream beside is waited for."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
import torch
from fake_cuda import CUDA, fake, fake_cuda
from replicas import class_tree
from small_loaders import AUGMENTS, loader, memory

import kdbench.data.resident as resident_module
from kdbench import transfer
from kdbench.data.loader import evaluation_batches
from kdbench.data.resident import Resident, resident
from kdbench.data.sets.folder import folder
from kdbench.random import permutation


@pytest.fixture
def room(monkeypatch):
    """Set the free memory of the GPU that is not there."""
    return lambda free: monkeypatch.setattr(resident_module, "free_bytes", lambda device: free)


def test_a_split_is_copied_once_and_only_where_there_is_room(room):
    split = memory()
    size = split.images.nbytes + split.labels.nbytes
    with fake_cuda():
        room(4 * size + 1)
        one = resident(split, CUDA)
        assert one is not None
        assert one is resident(split, CUDA)
        assert one.images.device == one.labels.device == CUDA
        images, labels = one.fetch(fake(5, dtype=torch.int64))
        assert (images.shape, images.dtype, labels.shape) == ((5, 3, 32, 32), torch.uint8, (5,))
        room(4 * size)
        assert resident(memory(), CUDA) is None
    assert resident(split, torch.device("cpu")) is None
    assert resident(split.subset(torch.arange(3)), torch.device("cpu")) is None


def test_image_files_stay_files(tmp_path):
    split = folder(str(class_tree(tmp_path, ["a"], {"train": 2, "val": 1}))).train
    assert resident(split, CUDA) is None


@pytest.mark.parametrize("name", list(AUGMENTS))
@pytest.mark.parametrize("lives", [True, False])
def test_the_device_is_not_read(name, lives, monkeypatch):
    split, augment = memory(), AUGMENTS[name]
    one = loader(split, augment, device=CUDA)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    split.copies[CUDA] = None
    if lives:
        with fake_cuda():
            split.copies[CUDA] = Resident(split, CUDA)
    rows = [(0, 8), (8, 16), (16, 23)]
    draw = permutation(1, "order", 1, 70)[:23]
    chunk = one._prepare(draw, rows, 1)
    assert (chunk.images is None) == lives
    with fake_cuda():
        batches = one._finish(chunk, fake(23, dtype=torch.int64), 1)
    assert [len(batch.images) for batch in batches] == [8, 8, 7]
    for batch, (first, last) in zip(batches, rows):
        assert {tensor.device for tensor in batch.on_device()} == {CUDA}
        assert (batch.host_draw.device.type, len(batch.host_draw)) == ("cpu", last - first)
        assert batch.smoothing_included == augment.mixes


def test_the_order_is_made_on_the_device():
    with fake_cuda():
        order = loader(memory(), AUGMENTS["pad"], device=CUDA, repeat=2).order(3)
        assert (order.device, order.shape, order.dtype) == (CUDA, (140,), torch.int64)


def test_a_gpu_is_given_more_batches_at_once():
    split = memory(70)
    few, many = (len(loader(split, AUGMENTS["pad"], batch_size=2, device=d)._chunks()) for d in ("cpu", CUDA))
    assert (few, many) == (1, 1)
    large = replace(AUGMENTS["pad"], size=256)
    few, many = (len(loader(split, large, batch_size=2, device=d)._chunks()) for d in ("cpu", CUDA))
    assert (few, many) == (5, 2)


@pytest.mark.parametrize("lives", [True, False])
@pytest.mark.parametrize("size", [0, 40])
def test_evaluation_reads_nothing_of_the_device(lives, size, room):
    split = memory(21)
    with fake_cuda():
        room(2**40 if lives else 0)
        found = list(evaluation_batches(split, 8, size, CUDA, 1, 2))
        assert [len(images) for images, _ in found] == [8, 2]
        assert {tensor.device for batch in found for tensor in batch} == {CUDA}
    assert (split.copies[CUDA] is not None) == lives


class Tape:
    """Stands in for PyTorch's streams and events, and writes down what is asked of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.said: list[str] = []
        self.where = "main"
        monkeypatch.setattr(torch.cuda, "Event", lambda: TapedEvent(self))
        monkeypatch.setattr(torch.cuda, "Stream", lambda device: "beside")
        monkeypatch.setattr(torch.cuda, "stream", self.switch)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: TapedStream(self))
        transfer._stream.cache_clear()

    @contextlib.contextmanager
    def switch(self, stream: str):
        self.where = stream
        yield
        self.where = "main"


class TapedStream:
    def __init__(self, tape: Tape) -> None:
        self.tape, self.name = tape, tape.where

    def wait_event(self, event: TapedEvent) -> None:
        self.tape.said.append(f"{self.name} waits for {event.name}")


class TapedEvent:
    def __init__(self, tape: Tape) -> None:
        self.tape, self.name = tape, ""

    def record(self, stream: TapedStream | None = None) -> None:
        last = [text for text in self.tape.said if text.startswith(("work", "use"))][-1]
        self.name = f"{self.tape.where} after {last}"

    def synchronize(self) -> None:
        self.tape.said.append(f"host waits for {self.name}")


class TapedTensor:
    def __init__(self, tape: Tape, name: str) -> None:
        self.tape, self.name = tape, name

    def record_stream(self, stream: TapedStream) -> None:
        self.tape.said.append(f"{self.name} belongs to {stream.name}")


def test_the_next_batch_is_made_beside_the_step(monkeypatch):
    tape = Tape(monkeypatch)

    def work(item: int) -> list[TapedTensor]:
        tape.said.append(f"work {item} {tape.where}")
        return [TapedTensor(tape, f"batch {item}")]

    try:
        for batch in transfer.in_advance(range(4), work, lambda batch: [batch], CUDA):
            tape.said.append(f"use {batch.name}")
    finally:
        transfer._stream.cache_clear()
    assert tape.said == [
        "work 0 beside",
        "work 1 beside",
        "main waits for beside after work 0 beside",
        "batch 0 belongs to main",
        "use batch 0",
        "work 2 beside",
        "main waits for beside after work 1 beside",
        "batch 1 belongs to main",
        "use batch 1",
        "host waits for main after use batch 0",
        "work 3 beside",
        "main waits for beside after work 2 beside",
        "batch 2 belongs to main",
        "use batch 2",
        "main waits for beside after work 3 beside",
        "batch 3 belongs to main",
        "use batch 3",
    ]


def test_elsewhere_it_is_made_when_it_is_asked_for():
    begun = []
    results = transfer.in_advance(
        range(5), lambda item: begun.append(item) or [item, item], lambda item: [], torch.device("cpu")
    )
    assert [next(results) for _ in range(3)] == [0, 0, 1]
    assert begun == [0, 1]
    assert list(results) == [1, 2, 2, 3, 3, 4, 4]


def test_tensors_are_sent_together_and_come_apart():
    parts = [torch.arange(3), torch.rand(2, dtype=torch.float64), torch.arange(0), torch.rand(4), torch.arange(5)]
    there = transfer.send_all(parts, torch.device("cpu"))
    assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(parts, there))
    assert transfer.send_all([], torch.device("cpu")) == []


def test_on_a_cpu_the_draws_are_known_without_a_copy():
    for batch in loader(memory(), AUGMENTS["pad"]).epoch(1):
        assert batch.host_draw.data_ptr() == batch.draw.data_ptr()
        assert torch.equal(batch.host_draw, batch.draw)
