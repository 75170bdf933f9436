"""Writing a network's weights: whole or not at all, and without copies of them in memory."""

from __future__ import annotations

import os
import resource
import stat
import tracemalloc
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from kdbench.errors import ModelError
from kdbench.models.networks.cifar import CIFAR_MODELS
from kdbench.models.weights.export import _apart, save_student
from kdbench.models.weights.read import read_weights


def test_saved_student_round_trips(tmp_path: Path) -> None:
    network = CIFAR_MODELS["wrn_16_1"](num_classes=5)
    network.conv1.weight.data = network.conv1.weight.data.to(memory_format=torch.channels_last)
    path = tmp_path / "new" / "student.safetensors"
    save_student(path, network, {"model": "wrn_16_1", "accuracy": {"top1": 71.5}})
    found, facts = read_weights(str(path))
    assert facts == {"model": "wrn_16_1", "accuracy": {"top1": 71.5}}
    other = CIFAR_MODELS["wrn_16_1"](num_classes=5)
    other.load_state_dict(found)
    torch.testing.assert_close(other.state_dict(), network.state_dict(), rtol=0, atol=0)
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_tied_weights_are_saved_twice(tmp_path: Path) -> None:
    tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    tied[1].weight = tied[0].weight
    save_student(tmp_path / "s.safetensors", tied, {})
    found = load_file(tmp_path / "s.safetensors")
    assert torch.equal(found["0.weight"], found["1.weight"])
    assert read_weights(tmp_path / "s.safetensors")[1] == {}


def test_saving_takes_no_memory_of_the_size_of_the_network(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(2000, 2000), nn.Linear(2000, 2000))  # 16 MB each
    tracemalloc.start()
    try:
        save_student(tmp_path / "s.safetensors", network, {})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (tmp_path / "s.safetensors").stat().st_size > 32_000_000
    assert peak < 4_000_000
    state = network.state_dict()
    assert all(tensor.data_ptr() == state[key].data_ptr() for key, tensor in _apart(state).items())


def test_failed_save_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s.safetensors"
    save_student(path, nn.Linear(2, 2), {"n": 1})
    before = path.read_bytes()

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(ModelError, match=r"s\.safetensors cannot be written: No space left"):
        save_student(path, nn.Linear(2, 2), {"n": 2})
    with pytest.raises(TypeError):
        save_student(path, nn.Linear(2, 2), {"n": object()})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_keeps_the_old_file(tmp_path: Path) -> None:
    """The library's own writing fails here, as it does on a disk without space."""
    path = tmp_path / "s.safetensors"
    save_student(path, nn.Linear(2, 2), {})
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, hard))
    try:
        with pytest.raises(ModelError, match=r"s\.safetensors cannot be written: .*File too large"):
            save_student(path, nn.Linear(200, 200), {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
